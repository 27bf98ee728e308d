"""Settings, read from the environment (`BELIEFSTREAM_...`) or a `.env` file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource as Source,
    SettingsConfigDict,
)

from beliefstream.streams.kafka.security import PREFIX, Mechanism, Protocol, Security, SecurityError
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.settings.addresses import Address, MqttUrl
from beliefstream.streams.settings.secret_files import SUFFIX, SecretFiles
from beliefstream.streams.settings.topics import renamed_topics
from beliefstream.streams.settings.variables import check_names

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
"""Secret settings; a variable with the suffix `_FILE` names a file that has the secret."""
OPTIONAL = (
    *SECRETS,
    *("ssl_ca_file", "ssl_certificate_file", "ssl_key_file"),
    *("mqtt_ca_file", "mqtt_certificate_file", "mqtt_key_file"),
)
PROTECTION = ("security_protocol", "sasl_mechanism", "sasl_username", *OPTIONAL)
"""Settings that protect the connections to brokers and the web endpoints."""

Accuracy = Literal["fast", "normal", "thorough"]
Listening = Annotated[Address, NoDecode, BeforeValidator(Address.of)]
"""Where a service listens, `host:port`."""


def as_text(value: object) -> str:
    """The value of a setting as its variable states it, or for a secret as stars; empty if it is absent."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={each}" for name, each in value.items())
    return "" if value is None else str(value)


class Settings(BaseSettings):
    """Settings of a worker and of the command line; every field is an environment variable with that prefix.

    A secret can be the content of a file: `X_FILE` names it. Raises UnknownSetting if a variable is of an earlier
    version or almost a setting, and SecurityError if the file of a secret cannot be used; both are ValueErrors.
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
    ssl_ca_file: Path | None = None
    """certificates (PEM) that signed the brokers' certificates; the system's, if absent"""
    ssl_certificate_file: Path | None = None
    """client certificate (PEM), for brokers that require one"""
    ssl_key_file: Path | None = None
    """its key (PEM), if that is in a separate file"""
    ssl_key_password: SecretStr | None = None
    """password of the key; never shown"""
    application: str = "beliefstream"
    """name of the application and its consumer group"""
    topics: Annotated[Mapping[str, str], NoDecode, BeforeValidator(renamed_topics)] = {}
    """topics with names of your own, as observations=plant.seen,dead_letters=plant.refused; the others are called
    observations, sensors, models, priors, posteriors, dead-letters and sensor-health"""
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
    threads: int = Field(1, ge=1)
    """threads of an update on the CPU"""
    accuracy: Accuracy = "normal"
    """normal: answers of the network are checked, and refined where the check asks for it; fast: they are checked once
    and left as they are, in single precision, for uses where thousands a second matter more than the last tenth of a
    nat; thorough: what is missing is searched for more often, which is several times slower if most problems are
    hard"""
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
    web_address: Listening = Address("127.0.0.1", 8080)
    """host:port of a worker's /healthz, /readyz and /metrics"""
    web_token: SecretStr | None = None
    """bearer token to read /metrics, at least 16 characters; no token needed if absent; never shown"""
    live_read_token: SecretStr | None = None
    """read-only token of the live page, at least 16 characters; never shown"""
    gateway_address: Listening = Address("127.0.0.1", 8081)
    """host:port of the HTTP gateway"""
    gateway_token: SecretStr | None = None
    """bearer token that the HTTP gateway requires, at least 16 characters; no token needed if absent; never shown"""
    gateway_body_bytes: int = Field(4000000, ge=1000)
    """larger bodies of requests are refused by the HTTP gateway, bytes"""
    gateway_rate: float = Field(10000.0, gt=0)
    """messages a second that one client address may send to the HTTP gateway; inf: any number"""
    gateway_silence: float = Field(30.0, gt=0)
    """seconds after which the HTTP gateway gives up a client that is silent within a request"""
    gateway_entities: int = Field(10000, ge=1)
    """number of entities whose latest posterior the HTTP gateway keeps: the most recent ones"""
    mqtt_url: Annotated[MqttUrl, NoDecode, BeforeValidator(MqttUrl.of)] = MqttUrl("127.0.0.1", 1883)
    """MQTT broker that the bridge reads from, mqtt://user@host:port, or mqtts:// for TLS"""
    mqtt_client: str = Field("beliefstream", min_length=1)
    """client identifier of the bridge; each running bridge needs its own"""
    mqtt_password: SecretStr | None = None
    """password at the MQTT broker; never shown"""
    mqtt_ca_file: Path | None = None
    """certificates (PEM) that have signed the MQTT broker's; the system's, if absent"""
    mqtt_certificate_file: Path | None = None
    """our own certificate (PEM), for MQTT brokers that ask for one"""
    mqtt_key_file: Path | None = None
    """its key (PEM), if that is in a file of its own"""
    bridge_address: Listening = Address("127.0.0.1", 8082)
    """host:port of the bridge's /healthz, /readyz and /metrics"""
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
        """Return the usual sources, and the files of secrets, after a look at the names of all variables."""
        sources = (init_settings, env_settings, dotenv_settings, file_secret_settings)
        variables: dict[str, str | None] = {}
        for each in reversed(sources):  # the first one prevails
            if isinstance(each, EnvSettingsSource):
                variables |= {name.lower(): value for name, value in each.env_vars.items()}
        files = (f"{name}{SUFFIX}" for name in SECRETS)
        check_names(variables, PREFIX, (*cls.model_fields, *files))
        return init_settings, SecretFiles(settings_cls, SECRETS, variables), *sources[1:]

    @field_validator(*OPTIONAL, mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """Treat an empty string as absent, because a compose file passes unset variables as empty."""
        return None if value == "" else value

    @field_validator("web_address")
    @classmethod
    def _port_is_stated(cls, value: Address) -> Address:
        """Refuse port 0: nobody would find the worker."""
        if value.port == 0:
            raise ValueError("expected a port from 1 to 65535")
        return value

    @property
    def names(self) -> TopicNames:
        """The names of all topics."""
        return TopicNames.for_app(self.application, **self.topics)

    @property
    def belief_directory(self) -> Path:
        """This application's directory for beliefs; several applications may share a data directory."""
        return self.data_directory / quote(self.application, safe="")

    @property
    def security(self) -> Security:
        """Security of connections to the brokers."""
        return Security(
            self.security_protocol,
            self.sasl_mechanism,
            self.sasl_username,
            self.sasl_password,
            self.ssl_ca_file,
            self.ssl_certificate_file,
            self.ssl_key_file,
            self.ssl_key_password,
        )

    @property
    def client_options(self) -> dict[str, Any]:
        """Options for every Kafka client except Faust; raises SecurityError."""
        return self.security.options()

    @property
    def token(self) -> SecretStr | None:
        """The bearer token of the web endpoints; raises SecurityError if it is short."""
        return self._token("web_token")

    @property
    def token_of_readers(self) -> SecretStr | None:
        """The read-only token of the live page; raises as `token`."""
        return self._token("live_read_token")

    @property
    def token_of_gateway(self) -> SecretStr | None:
        """The bearer token of the HTTP gateway; raises as `token`."""
        return self._token("gateway_token")

    def _token(self, name: str) -> SecretStr | None:
        token: SecretStr | None = getattr(self, name)
        if token is not None and not TOKEN.fullmatch(token.get_secret_value()):
            allowed = "16 to 512 of the characters A-Z a-z 0-9 . _ ~ + / = -"
            raise SecurityError(f"{_variable(name)}: expected {allowed}")
        return token

    def environment(self) -> dict[str, str]:
        """The settings as environment variables for another process, secrets included."""
        values = {_variable(name): getattr(self, name) for name in type(self).model_fields}
        found = {
            name: each.get_secret_value() if isinstance(each, SecretStr) else as_text(each)
            for name, each in values.items()
        }
        # a secret is passed itself: the other process must not read a file that our environment names
        return found | {_variable(f"{name}{SUFFIX}"): "" for name in SECRETS}


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"
