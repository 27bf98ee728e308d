"""Notes in the dead-letter topic that record which dead letters were sent again."""

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
    """A note that dead letters are about to be sent again, or have been.

    Each group of letters has two notes. If there is one with `begun` but none with `sent`, the replay was interrupted:
    its letters may or may not have been sent.
    """

    id: Annotated[Identifier, Field(description="of the group of letters; both notes have it; no unit")]
    state: Annotated[Literal["begun", "sent"], Field(description="before or after the letters were sent")]
    time: Annotated[Time, Field(description="when the note was written: seconds since the epoch UTC")]
    letters: Annotated[
        _Texts,
        Field(
            description="which messages: topic/partition:offset#digest, where each lay before it became a dead letter"
        ),
    ]
    places: Annotated[
        _Texts,
        Field(
            description="topic/partition:offset where each message lies now, in the order of letters; only in sent"
        ),
    ] = ()
