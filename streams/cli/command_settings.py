"""Reads the settings of a command from the environment and its options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from beliefstream.streams.settings import Settings


def settings_for(brokers: str | None = None, **changes: Any) -> Settings:
    """Return the settings from the environment, changed by options that are not None.

    Also configures logging. Libraries log only warnings, to stderr, and Kafka's client logs nothing, because the
    command prints its errors. With BELIEFSTREAM_LOG_LEVEL=debug all libraries log everything.

    Raises CommandError that names the variable at fault, also if its name is almost that of a setting.
    """
    from pydantic import ValidationError

    from beliefstream.streams.monitoring import logs
    from beliefstream.streams.settings import MisspeltSetting, Settings

    logs.configure_command()
    given = {name: value for name, value in {"brokers": brokers, **changes}.items() if value is not None}
    try:
        settings = Settings(**given)
    except MisspeltSetting as error:
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
        value = "" if name in SECRETS or not name else f" ({fault['input']!r})"
        yield f"{Settings.model_config['env_prefix']}{name.upper()}: {fault['msg']}{value}"
