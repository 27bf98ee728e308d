"""Entry point of the command line: runs a command, and prints one line for an error that a user can fix."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer import Typer

LONGEST = 1000  # characters of an error line


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `beliefstream` and exit; see `run`."""
    from beliefstream.streams.cli.commands import app

    run(app, "beliefstream", list(sys.argv[1:] if arguments is None else arguments) or ["--help"])


def run(app: Typer, name: str, arguments: Sequence[str]) -> None:
    """Run an application and exit: with 0, with 1 after one line on stderr, or with 130 after Ctrl-C."""
    try:
        # without standalone mode, typer leaves the output of errors to this function
        status = app(args=list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        raise SystemExit(_unread()) from None
    except SystemExit as ended:  # typer exits after a broken pipe
        raise SystemExit(
            _unread() if isinstance(ended.__context__, BrokenPipeError) else ended.code
        ) from None
    except Exception as error:
        line = _explanation(error)
        if line is None:  # a bug: developers need the traceback
            raise
        raise SystemExit(_failed(line)) from None
    raise SystemExit(status or 0)


def _failed(line: str) -> int:
    from beliefstream.schemas import printable

    text = printable(" ".join(line.split()))
    print(f"beliefstream: {text[:LONGEST]}", file=sys.stderr)
    return 1


def _unread() -> int:
    """Return the status for a reader that has closed our output, as `head` does: no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _explanation(error: Exception) -> str | None:
    """Return one line for an error that a user can fix; None for any other."""
    import typer
    from kafka.errors import KafkaError
    from pydantic import ValidationError

    from beliefstream.schemas import Unusable, explain
    from beliefstream.streams.cli.setup import missing
    from beliefstream.streams.kafka.connection import TopicMissing

    # UsageError and ClickException, in whichever package they are
    usage, problem = typer.BadParameter.__mro__[1:3]
    if isinstance(error, usage):
        context = getattr(error, "ctx", None)
        hint = f" ({context.command_path} --help says how)" if context else ""
        return f"{error.format_message()}{hint}"  # type: ignore[attr-defined]
    if isinstance(error, problem):
        return str(error.format_message())  # type: ignore[attr-defined]
    if isinstance(error, typer.Abort):
        return "aborted"
    if isinstance(error, ValidationError):
        return explain(error)
    if isinstance(error, Unusable):
        return error.detail
    if isinstance(error, ModuleNotFoundError):
        return missing(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (OSError, ValueError, RuntimeError, KafkaError, TopicMissing)):
        return str(error) or type(error).__name__
    return None
