"""Reset: a message on the topic of priors that makes a worker forget an entity."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_core import from_json

from beliefstream.schemas.base import Identifier, Message, Name, check_parts
from beliefstream.schemas.decoding import parse
from beliefstream.schemas.prior import Prior
from beliefstream.schemas.time import Time

_Count = Annotated[int, Field(strict=True, ge=0)]


class LogPosition(Message):
    """A position in one partition of a topic."""

    topic_id: Annotated[
        Identifier,
        Field(description="the broker's id of the topic; a topic that is created again has another one"),
    ]
    partition: Annotated[_Count, Field(description="partition of the topic; no unit")]
    offset: Annotated[_Count, Field(description="offset of the first record after the position; no unit")]


class Reset(Message):
    """Forgets an entity: its belief, history and waiting events; its next observation starts from its model's prior."""

    most_parts: ClassVar[int] = 1_000

    entity: Annotated[Name, Field(description="entity to forget; also the key of the record")]
    reset: Annotated[
        Literal[True], Field(description="always true; distinguishes a reset from a prior; no unit")
    ]
    time: Annotated[
        Time,
        Field(
            description="time of the posterior that reports the reset: seconds since the epoch UTC, or RFC 3339; "
            "later observations are used whatever their time"
        ),
    ]
    observations_before: Annotated[
        LogPosition | None,
        Field(
            description="position in the entity's partition of observations; those before it are forgotten too, even "
            "if the worker has not read them yet; absent: only those that the worker has read"
        ),
    ] = None
    id: Annotated[
        Identifier | None,
        Field(
            description="identifier chosen by the sender; another reset with the same id changes nothing; no unit"
        ),
    ] = None


def parse_stated(raw: bytes | None) -> Prior | Reset:
    """Parse a message of the topic of priors; one with a field `reset` is a reset, others are priors.

    Raises:
        Unusable: as `schemas.parse`.
    """
    if raw is None or b'"reset"' not in raw:
        return parse(Prior, raw)
    check_parts(raw, Prior.most_parts)
    try:
        content = from_json(raw)
    except ValueError:
        return parse(Prior, raw)  # raises the error with the right reason
    if not isinstance(content, dict) or "reset" not in content:
        return parse(Prior, raw)
    return parse(Reset, raw)
