"""Reads the settings of a command from the environment and its options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from beliefstream.streams.settings import Settings

_SIMILAR = 0.8  # of names: `bacth` and `batch` are so similar
_OF_OTHERS = ("soak_seconds",)  # variables of `make soak`, not settings


def settings_for(brokers: str | None = None, **changes: Any) -> Settings:
    """Return the settings from the environment, changed by options that are not None.

    Also configures logging. Libraries log only warnings, to stderr, and Kafka's client logs nothing, because the
    command prints its errors. With BELIEFSTREAM_LOG_LEVEL=debug all libraries log everything.

    Raises CommandError that names the variable at fault. A variable whose name is almost that of a setting is one: what
    it should set, such as a token, would silently be absent.
    """
    from pydantic import ValidationError

    from beliefstream.streams.monitoring import logs
    from beliefstream.streams.settings import Settings

    logs.configure_command()
    if misspelt := list(_misspelt()):
        raise CommandError("; ".join(misspelt))
    given = {name: value for name, value in {"brokers": brokers, **changes}.items() if value is not None}
    try:
        settings = Settings(**given)
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


def _misspelt() -> Iterator[str]:
    """Yield a line for each variable that is no setting, but is called almost like one."""
    import os
    from difflib import get_close_matches

    from pydantic_settings import DotEnvSettingsSource

    from beliefstream.streams.settings import Settings

    prefix = str(Settings.model_config["env_prefix"])
    given = {variable.upper() for variable in (*os.environ, *DotEnvSettingsSource(Settings).env_vars)}
    for variable in sorted(given):
        name = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and name not in (*Settings.model_fields, *_OF_OTHERS):
            for near in get_close_matches(name, Settings.model_fields, 1, _SIMILAR):
                yield f"{variable}: there is no such setting; is it {prefix}{near.upper()}?"
