"""What commands share: the brokers' option, settings, where input comes from and how output looks."""

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

    from streams.settings import Settings

Brokers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT[,...]", help="Kafka bootstrap servers", show_default="of BELIEFSTREAM_BROKERS"
    ),
]


class Format(StrEnum):
    """How a command writes what it found."""

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
    """A command could not do what it was asked for; the text is the one line that the user gets."""


def settings_for(brokers: str | None = None, **changes: Any) -> Settings:
    """Settings from the environment; `brokers` and other changes, where not None, come from options.

    From here on libraries log warnings only, to stderr, and Kafka's client nothing: its errors reach the user
    as the command's own line. With BELIEFSTREAM_LOG_LEVEL=debug all of them log all they have.

    Raises CommandError that names the variable at fault.
    """
    from pydantic import ValidationError

    from streams import logs
    from streams.settings import Settings

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
    """A line each, which names the variable and the value, unless that is a secret."""
    from streams.settings import SECRETS, Settings

    for fault in error.errors(include_url=False):
        name = ".".join(map(str, fault["loc"]))
        shown = "" if name in SECRETS or not name else f" ({fault['input']!r})"
        yield f"{Settings.model_config['env_prefix']}{name.upper()}: {fault['msg']}{shown}"


def resolve(chosen: Format | None) -> Format:
    """What was asked for, or else what suits standard output."""
    return chosen or (Format.table if sys.stdout.isatty() else Format.json)


def console(*, errors: bool = False) -> Console:
    """A rich console on standard output or standard error; wide enough for whole lines where nobody looks."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 140, highlight=False)


def progress_bar(unit: str) -> Progress:
    """A progress bar on standard error, silent where that is no terminal."""
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
    """The content that FILE, `-` (standard input) or JSON itself stands for."""
    if source == "-":
        return sys.stdin.buffer.read()
    if source.lstrip().startswith(("{", "[")):
        return source.encode()
    return Path(source).read_bytes()


def read_definitions(source: str) -> list[bytes]:
    """The JSON objects of a source: one object, a list of them, or one a line.

    Raises ValueError where it is not JSON.
    """
    import orjson

    raw = read_source(source)
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        lines = [line for line in raw.splitlines() if line.strip()]
        if len(lines) < 2:
            raise ValueError(f"{_shown(source)}: not JSON: {error}") from None
        return lines
    return [orjson.dumps(entry) for entry in content] if isinstance(content, list) else [raw]


def numbers(text: str) -> list[float]:
    """`1,2.5` as numbers; raises CommandError that shows what is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(f"expected numbers separated by commas, such as 1,2.5, got {text!r}") from None


def whole_numbers(text: str | None, option: str, least: int) -> tuple[int, ...] | None:
    """`1,2` as whole numbers from `least`; raises CommandError that names the option and shows what is none."""
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
    """A time given as seconds since the epoch or in RFC 3339, which the message then checks."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _shown(source: str) -> str:
    return "standard input" if source == "-" else source[:40]
