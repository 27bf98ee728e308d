"""Shared parts of the commands that send one message: `observe`, `prior` and `entity`."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from beliefstream.streams.client.publisher import Place

SOURCE = "/beliefstream/cli"
TIMEOUT = 30.0  # seconds to wait for the broker to take a message, or for a worker to answer
Entity = Annotated[str, typer.Argument(metavar="ENTITY")]
When = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="seconds since the epoch, or RFC 3339 with an offset", show_default="now"
    ),
]


def sent(future: Future[Place]) -> Place:
    try:
        return future.result(TIMEOUT)
    except TimeoutError:
        raise CommandError(f"the broker did not accept the message within {TIMEOUT:g} s") from None


def report(future: Future[Place]) -> None:
    """Wait for the broker, and print topic and partition:offset of the message."""
    place = sent(future)
    print(f"{place.topic} {place.partition}:{place.offset}")
