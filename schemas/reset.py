"""Reset: a control message on the topic of priors that makes a worker forget an entity."""

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
        Identifier, Field(description="the broker's own id of the topic, another one once it is made again")
    ]
    partition: Annotated[_Count, Field(description="of the topic; no unit")]
    offset: Annotated[_Count, Field(description="of the first record after the place; no unit")]


class Reset(Message):
    """Forgets an entity: its belief, history and waiting events; its next observation starts from its model's prior."""

    most_parts: ClassVar[int] = 1_000

    entity: Annotated[Name, Field(description="who is forgotten; also the key of the record")]
    reset: Annotated[Literal[True], Field(description="always true; it tells a reset from a prior; no unit")]
    time: Annotated[
        Time,
        Field(
            description="of the posterior that tells of the reset: seconds since the epoch UTC, or RFC 3339; "
            "observations of any time are used after it"
        ),
    ]
    observations_before: Annotated[
        LogPosition | None,
        Field(
            description="in the entity's partition of the observations: what lies before it is forgotten too, also "
            "where the worker has not read it yet; absent: only what the worker has read"
        ),
    ] = None
    id: Annotated[
        Identifier | None,
        Field(
            description="an identifier of the sender's own; another reset with it changes nothing; no unit"
        ),
    ] = None


def parse_stated(raw: bytes | None) -> Prior | Reset:
    """Parse a message of the topic of priors: with a field `reset` it is a reset, otherwise a prior.

    Raises:
        Unusable: as `schemas.parse`.
    """
    if raw is None or b'"reset"' not in raw:
        return parse(Prior, raw)
    check_parts(raw, Prior.most_parts)
    try:
        content = from_json(raw)
    except ValueError:
        return parse(Prior, raw)  # raises the right error
    if not isinstance(content, dict) or "reset" not in content:
        return parse(Prior, raw)
    return parse(Reset, raw)
