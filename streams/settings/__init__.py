"""Settings, read from the environment (`BELIEFSTREAM_...`) or a `.env` file."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource as Source,
    SettingsConfigDict,
)

from beliefstream.streams.kafka.security import (
    PREFIX,
    Mechanism,
    Protocol,
    Security,
    SecurityError,
    read_secret,
)
from beliefstream.streams.kafka.topics import TopicNames

_SIMILAR = 0.8  # of names: `bacth` and `batch` are so similar
_OF_OTHERS = ("soak_seconds",)  # variables of `make soak`, not settings
# the characters that RFC 6750 allows in a header, and too many to guess in a day
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
SECRETS = (
    "sasl_password",
    "ssl_key_password",
    "web_token",
    "live_read_token",
    "gateway_token",
    "mqtt_password",
)
"""Secret settings; each can also be given as a file, by the setting with the suffix `_file`."""
OPTIONAL = (
    *SECRETS,
    *(f"{name}_file" for name in SECRETS),
    *("ssl_ca_file", "ssl_certificate_file", "ssl_key_file"),
    *("mqtt_ca_file", "mqtt_certificate_file", "mqtt_key_file"),
)
PROTECTION = ("security_protocol", "sasl_mechanism", "sasl_username", *OPTIONAL)
"""Settings that protect the connections to brokers and the web endpoints."""
TOPICS = ("observations", "sensors", "models", "priors", "posteriors", "dead_letters", "sensor_health")
"""Settings that name the topics of an application; its changelog is named after the application."""


class MisspeltSetting(ValueError):
    """A variable is called almost like a setting: what it should set, such as a token, would silently be absent."""


def check_spelling(variables: Iterable[str], prefix: str, settings: Collection[str]) -> None:
    """Raise MisspeltSetting if one of `variables` has the prefix and is almost, but not exactly, a setting.

    Args:
        variables: names of all variables, in any case.
        prefix: of the variables that are settings, in upper case.
        settings: names of the settings, in lower case.
    """
    ours = {each.upper() for each in variables if each.upper().startswith(prefix)}
    unknown = ours - {f"{prefix}{name.upper()}" for name in (*settings, *_OF_OTHERS)}
    if faults := [
        f"{variable}: there is no such setting; is it {prefix}{near.upper()}?"
        for variable in sorted(unknown)
        for near in get_close_matches(variable.removeprefix(prefix).lower(), settings, 1, _SIMILAR)
    ]:
        raise MisspeltSetting("; ".join(faults))


class Settings(BaseSettings):
    """Settings of a worker and of the command line; every field is an environment variable with that prefix.

    Raises MisspeltSetting, a ValueError, if a variable is called almost like a setting.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    brokers: str = Field("127.0.0.1:9092", min_length=1)
    """Kafka bootstrap servers, host:port[,host:port...]"""
    security_protocol: Protocol = "PLAINTEXT"
    """whether connections to brokers use TLS, SASL or both"""
    sasl_mechanism: Mechanism = "SCRAM-SHA-512"
    """SASL mechanism for user and password"""
    sasl_username: str = ""
    """user name at the brokers"""
    sasl_password: SecretStr | None = None
    """password at the brokers; never shown"""
    sasl_password_file: Path | None = None
    """file with that password, as an alternative"""
    ssl_ca_file: Path | None = None
    """certificates (PEM) that signed the brokers' certificates; the system's, if absent"""
    ssl_certificate_file: Path | None = None
    """client certificate (PEM), for brokers that require one"""
    ssl_key_file: Path | None = None
    """its key (PEM), if that is in a separate file"""
    ssl_key_password: SecretStr | None = None
    """password of the key; never shown"""
    ssl_key_password_file: Path | None = None
    """file with that password, as an alternative"""
    application: str = "beliefstream"
    """name of the application and its consumer group"""
    observations: str = "observations"
    """topic of observations"""
    sensors: str = "sensors"
    """topic of sensor definitions, compacted"""
    models: str = "models"
    """topic of model definitions, compacted"""
    priors: str = "priors"
    """topic of priors"""
    posteriors: str = "posteriors"
    """topic of posteriors"""
    dead_letters: str = "dead-letters"
    """topic of messages that could not be used"""
    sensor_health: str = "sensor-health"
    """topic of the health of sensors, compacted"""
    health_window: float = Field(3600.0, gt=0, le=1000000000.0)
    """window of event time over which the health of sensors is judged, seconds; a 256th of it is the shortest time
    between two reports on a sensor"""
    partitions: int = Field(8, ge=1)
    """partitions of observations, priors, posteriors and beliefs"""
    batch: int = Field(4096, ge=1, le=65536)
    """most messages in one batch; fewer where a batch of them takes long"""
    batch_seconds: float = Field(0.001, gt=0)
    """longest wait for a batch to fill after its first message, seconds"""
    maximum_message_bytes: int = Field(1000000, ge=1000)
    """larger messages are dead letters, bytes"""
    future_tolerance: float = Field(60.0, ge=0)
    """how far a time may be ahead of the clock, seconds; for models with live_time, the default; messages further ahead
    are dead letters"""
    event_tolerance: float = Field(math.inf, gt=0)
    """how far a time may be ahead of the event time of its partition, seconds; for models without live_time, as in a
    replay; must exceed any silence of a whole partition; inf: no limit"""
    refuse_misplaced: bool = True
    """whether a record in another partition than murmur2 of its key gives is a dead letter; otherwise it is counted,
    and applied to a second belief of its entity in that partition"""
    history: int = Field(256, ge=1)
    """number of an entity's newest times that late observations can change; the model's lateness_window is a limit
    too"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where the network runs"""
    weights: str = "equivariant-32x4-16"
    """shipped weights by name, or a .safetensors file"""
    precision: Literal["single", "double"] = "single"
    """precision of the network where `fast` is set; in double a posterior equals the replay of the log to 9 digits,
    however messages are batched. Answers that may be refined are always in double"""
    threads: int = Field(1, ge=1)
    """threads of an update on the CPU"""
    points: int = Field(96, ge=16)
    """importance samples that check each posterior"""
    refine_below: float = Field(0.95, ge=0, le=1)
    """sample efficiency below which the network's answer is refined with more points, up to 8 times as many; 0: it is
    never refined; 0.9 is faster by a tenth where most problems are hard, and less exact"""
    repeat_below: float = Field(0.5, ge=0, le=1)
    """sample efficiency of a refined posterior below which its modes are searched for; 0.9 is more exact, and several
    times slower if most problems are hard"""
    fast: bool = False
    """check answers of the network once, and never search or refine them, whatever `refine_below` says;
    for uses where thousands a second matter more than the last tenth of a nat"""
    measurements: str = ""
    """modules that register your own measurement functions, separated by commas"""
    store: Literal["memory://", "rocksdb://"] = "memory://"
    """local store of beliefs: memory://, or rocksdb:// on disk, with which a restart is faster"""
    data_directory: Path = Path(".beliefstream")
    """directory of the local store on disk; each worker needs its own"""
    session_timeout: float = Field(10.0, ge=6)
    """seconds after which other workers take over from a silent worker; at least 6"""
    stall_seconds: float = Field(300.0, ge=5)
    """seconds after which a worker stops to be restarted, if messages wait and none is processed"""
    web_host: str = "127.0.0.1"
    """address of /healthz, /readyz and /metrics"""
    web_port: int = Field(8080, ge=1, le=65535)
    """port of /healthz, /readyz and /metrics"""
    web_token: SecretStr | None = None
    """bearer token to read /metrics, at least 16 characters; no token needed if absent; never shown"""
    web_token_file: Path | None = None
    """file with that token, as an alternative"""
    map_tiles: str = ""
    """URL of map tiles for the live page, with {z}, {x} and {y}; none are loaded, if absent"""
    map_attribution: str = ""
    """attribution of these tiles, shown on the map"""
    floor_plan: str = ""
    """YAML file with image, resolution and origin of a floor plan for the live page"""
    live_read_token: SecretStr | None = None
    """read-only token of the live page, at least 16 characters; never shown"""
    live_read_token_file: Path | None = None
    """file with that token, as an alternative"""
    gateway_host: str = "127.0.0.1"
    """address on which the HTTP gateway listens"""
    gateway_port: int = Field(8081, ge=0, le=65535)
    """port of the HTTP gateway"""
    gateway_token: SecretStr | None = None
    """bearer token that the HTTP gateway requires, at least 16 characters; no token needed if absent; never shown"""
    gateway_token_file: Path | None = None
    """file with that token, as an alternative"""
    gateway_body_bytes: int = Field(4000000, ge=1000)
    """larger bodies of requests are refused by the HTTP gateway, bytes"""
    gateway_rate: float = Field(10000.0, gt=0)
    """messages a second that one client address may send to the HTTP gateway; inf: any number"""
    gateway_silence: float = Field(30.0, gt=0)
    """seconds after which the HTTP gateway gives up a client that is silent within a request"""
    gateway_entities: int = Field(10000, ge=1)
    """number of entities whose latest posterior the HTTP gateway keeps: the most recent ones"""
    mqtt_host: str = "127.0.0.1"
    """MQTT broker that the bridge reads from"""
    mqtt_port: int = Field(1883, ge=1, le=65535)
    """its port; usually 8883 with TLS"""
    mqtt_client: str = Field("beliefstream", min_length=1)
    """client identifier of the bridge; each running bridge needs its own"""
    mqtt_web_port: int = Field(8082, ge=0, le=65535)
    """port of the bridge's /healthz, /readyz and /metrics, at the web host"""
    mqtt_username: str = ""
    """user name at the MQTT broker"""
    mqtt_password: SecretStr | None = None
    """password at the MQTT broker; never shown"""
    mqtt_password_file: Path | None = None
    """file with that password, as an alternative"""
    mqtt_tls: bool = False
    """whether the MQTT broker is reached by TLS"""
    mqtt_ca_file: Path | None = None
    """certificates (PEM) that have signed the MQTT broker's; the system's, if absent"""
    mqtt_certificate_file: Path | None = None
    """our own certificate (PEM), for MQTT brokers that ask for one"""
    mqtt_key_file: Path | None = None
    """its key (PEM), if that is in a file of its own"""
    mqtt_in_flight: int = Field(1000, ge=1, le=65535)
    """most MQTT messages that wait for Kafka at once; the rest waits at the broker"""
    mqtt_session_seconds: float = Field(86400.0, ge=0)
    """how long the MQTT broker keeps messages for a bridge that is away, seconds"""
    acknowledge_seconds: float = Field(10.0, ge=1)
    """how long the HTTP gateway waits for Kafka to acknowledge a message, seconds"""
    logs: Literal["auto", "json", "console"] = "auto"
    """format of the logs; auto: console in a terminal, json elsewhere"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """lowest level that a worker logs; debug includes libraries, also in commands"""
    fetch_high_watermark: bool = False
    """find the end of a topic by reading; the embedded broker needs it"""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: Source,
        env_settings: Source,
        dotenv_settings: Source,
        file_secret_settings: Source,
    ) -> tuple[Source, ...]:
        """Return the usual sources, after a look at the names of the variables in them."""
        sources = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        variables = [
            name for each in sources if isinstance(each, EnvSettingsSource) for name in each.env_vars
        ]
        check_spelling(variables, PREFIX, tuple(cls.model_fields))
        return sources

    @field_validator(*OPTIONAL, mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """Treat an empty string as absent, because a compose file passes unset variables as empty."""
        return None if value == "" else value

    @property
    def names(self) -> TopicNames:
        """The topics' names; raises ValueError if two are the same, since a worker would read what it sends."""
        stated = {setting: getattr(self, setting) for setting in TOPICS}
        for one, other in combinations(stated, 2):
            if stated[one] == stated[other]:
                variables = f"{_variable(one)} and {_variable(other)}"
                raise ValueError(f"{variables}: both are the topic {stated[one]!r}; each needs its own")
        return TopicNames.for_app(self.application, **stated)

    @property
    def belief_directory(self) -> Path:
        """This application's directory for beliefs; several applications may share a data directory."""
        return self.data_directory / quote(self.application, safe="")

    @property
    def security(self) -> Security:
        """Security of connections to the brokers; raises SecurityError if a secret's file cannot be read."""
        return Security(
            self.security_protocol,
            self.sasl_mechanism,
            self.sasl_username,
            self._secret("sasl_password"),
            self.ssl_ca_file,
            self.ssl_certificate_file,
            self.ssl_key_file,
            self._secret("ssl_key_password"),
        )

    @property
    def client_options(self) -> dict[str, Any]:
        """Options for every Kafka client except Faust; raises SecurityError."""
        return self.security.options()

    @property
    def token(self) -> SecretStr | None:
        """The bearer token of the web endpoints; raises SecurityError if it is short or its file cannot be read."""
        return self._token("web_token")

    @property
    def token_of_readers(self) -> SecretStr | None:
        """The read-only token of the live page; raises as `token`."""
        return self._token("live_read_token")

    @property
    def token_of_gateway(self) -> SecretStr | None:
        """The bearer token of the HTTP gateway; raises as `token`."""
        return self._token("gateway_token")

    @property
    def password_of_mqtt(self) -> SecretStr | None:
        """The password at the MQTT broker; raises SecurityError if its file cannot be read."""
        return self._secret("mqtt_password")

    def _token(self, name: str) -> SecretStr | None:
        token = self._secret(name)
        if token is not None and not TOKEN.fullmatch(token.get_secret_value()):
            allowed = "16 to 512 of the characters A-Z a-z 0-9 . _ ~ + / = -"
            raise SecurityError(f"{_variable(name)}: expected {allowed}")
        return token

    def _secret(self, name: str) -> SecretStr | None:
        return read_secret(_variable(name), getattr(self, name), getattr(self, f"{name}_file"))

    def environment(self) -> dict[str, str]:
        """The settings as environment variables for another process, secrets included."""
        values = {_variable(name): getattr(self, name) for name in type(self).model_fields}
        secrets = {
            name: each.get_secret_value() for name, each in values.items() if isinstance(each, SecretStr)
        }
        return {name: "" if value is None else str(value) for name, value in (values | secrets).items()}


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"
