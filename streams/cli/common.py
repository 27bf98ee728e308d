"""Shared parts of the commands: the brokers' option, settings, input and output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import ValidationError
    from rich.console import Console
    from rich.progress import Progress

    from beliefstream.streams.bridges.definition_files import Stated
    from beliefstream.streams.settings import Settings

Brokers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT[,...]", help="Kafka bootstrap servers", show_default="of BELIEFSTREAM_BROKERS"
    ),
]


class Format(StrEnum):
    """Output format of a command."""

    json = "json"
    table = "table"


Formatted = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="JSON lines or a table for people",
        show_default="table in a terminal, json elsewhere",
    ),
]


class CommandError(RuntimeError):
    """A command failed; the text is the one line that the user gets."""


def settings_for(brokers: str | None = None, **changes: Any) -> Settings:
    """Return settings from the environment; `brokers` and other changes that are not None come from options.

    From then on libraries log only warnings, to stderr, and Kafka's client nothing: its errors reach the user as the
    command's own line. With BELIEFSTREAM_LOG_LEVEL=debug all of them log everything.

    Raises CommandError that names the variable at fault.
    """
    from pydantic import ValidationError

    from beliefstream.streams.monitoring import logs
    from beliefstream.streams.settings import Settings

    logs.configure_command()
    given = {name: value for name, value in {"brokers": brokers, **changes}.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise CommandError("; ".join(_faults(error))) from None
    if settings.log_level == "debug":
        logs.configure_command(debug=True)
    return settings


def _faults(error: ValidationError) -> Iterator[str]:
    """A line for each fault, with the variable and its value, unless that is a secret."""
    from beliefstream.streams.settings import SECRETS, Settings

    for fault in error.errors(include_url=False):
        name = ".".join(map(str, fault["loc"]))
        value = "" if name in SECRETS or not name else f" ({fault['input']!r})"
        yield f"{Settings.model_config['env_prefix']}{name.upper()}: {fault['msg']}{value}"


def resolve(chosen: Format | None) -> Format:
    """The chosen format, or the one that suits standard output."""
    return chosen or (Format.table if sys.stdout.isatty() else Format.json)


def console(*, errors: bool = False) -> Console:
    """A rich console on standard output or standard error; wide enough for whole lines if it is no terminal."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 140, highlight=False)


def progress_bar(unit: str) -> Progress:
    """A progress bar on standard error, silent if that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console(errors=True),
        disable=not sys.stderr.isatty(),
    )


def read_source(source: str) -> bytes:
    """Return the content of FILE, of `-` (standard input) or of JSON given directly."""
    if source == "-":
        return sys.stdin.buffer.read()
    if source.lstrip().startswith(("{", "[")):
        return source.encode()
    return Path(source).read_bytes()


def read_definitions(source: str) -> list[Stated]:
    """Return the definitions of a source in JSON or YAML: one, a list of them, or one a line or document.

    Raises ValueError if it is neither.
    """
    from beliefstream.streams.bridges import definition_files

    return definition_files.read_definitions(read_source(source), _name_of(source))


def numbers(text: str) -> list[float]:
    """Parse `1,2.5` as numbers; raises CommandError that shows the invalid part."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(f"expected numbers separated by commas, such as 1,2.5, got {text!r}") from None


def whole_numbers(text: str | None, option: str, least: int) -> tuple[int, ...] | None:
    """Parse `1,2` as whole numbers from `least`; raises CommandError that names the option and the invalid part."""
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < least:
        raise CommandError(f"{option}: expected whole numbers from {least}, with commas, got {text!r}")
    return found


def moment(text: str | None) -> float | str | None:
    """Parse a time in seconds since the epoch; other text is passed on as RFC 3339, which the message checks."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _name_of(source: str) -> str:
    if source == "-":
        return "standard input"
    return source[:40] if source.lstrip().startswith(("{", "[")) else source
