"""Replay note: a record in the dead-letter topic that says which dead letters were sent again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from beliefstream.schemas.base import Identifier, Message
from beliefstream.schemas.time import Time

MOST_LETTERS = 1000  # in one note

_Texts = Annotated[
    tuple[Annotated[str, Field(strict=True, max_length=400)], ...],
    Field(fail_fast=True),
    Field(max_length=MOST_LETTERS),
]


class Replay(Message):
    """A note that dead letters are about to be sent again, or were sent.

    Each group of letters has two notes. A group with a note `begun` but none `sent` was interrupted: its letters may
    or may not have been sent.
    """

    id: Annotated[
        Identifier, Field(description="identifier of the group of letters, the same in both notes; no unit")
    ]
    state: Annotated[
        Literal["begun", "sent"], Field(description="begun: before the letters are sent; sent: after")
    ]
    time: Annotated[Time, Field(description="time of the note: seconds since the epoch UTC")]
    letters: Annotated[
        _Texts,
        Field(description="the messages, each as topic/partition:offset#digest of its original record"),
    ]
    places: Annotated[
        _Texts,
        Field(
            description="new record of each message, as topic/partition:offset, in the order of letters; only in sent"
        ),
    ] = ()
