"""Options that several commands share, and parsers for their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli.errors import CommandError

Brokers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT[,...]", help="Kafka bootstrap servers", show_default="of BELIEFSTREAM_BROKERS"
    ),
]


def numbers(text: str) -> list[float]:
    """Parse `1,2.5` as numbers; raises CommandError that shows the invalid part."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(f"expected numbers separated by commas, such as 1,2.5, got {text!r}") from None


def whole_numbers(text: str | None, option: str, least: int) -> tuple[int, ...] | None:
    """Parse `1,2` as whole numbers from `least`; raises CommandError that names the option and the text."""
    if text is None:
        return None
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < least:
        raise CommandError(
            f"{option}: expected whole numbers from {least}, separated by commas, got {text!r}"
        )
    return found


def moment(text: str | None) -> float | str | None:
    """Parse a time in seconds since the epoch; return other text unchanged, as RFC 3339 that the message checks."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def keep_inputs(out: Path | None, *inputs: str | Path | None) -> None:
    """Raise CommandError if the output is one of the input files, which it would replace."""
    for each in inputs:
        if out is not None and each is not None and _is_file(each) and out.exists() and out.samefile(each):
            raise CommandError(f"{out}: is an input of this command; name another file for the output")


def _is_file(source: str | Path) -> bool:
    """Whether the source is a path of a file, not `-` or JSON."""
    try:
        return Path(source).is_file()
    except OSError:  # JSON may be too long for a path
        return False
