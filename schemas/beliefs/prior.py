"""Messages of the topic of priors: a prior stated by an operator, and a reset, by which a worker forgets an entity."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, from_json

from beliefstream.schemas.base import (
    Count,
    Identifier,
    Message,
    Name,
    Reason,
    Several,
    Unusable,
    check_parts,
    distinct,
    parse,
)
from beliefstream.schemas.beliefs.mixture import Mixture
from beliefstream.schemas.time import Time


class Prior(Message):
    """A prior for one entity, applied at its time."""

    entity: Name
    """entity of the prior; also the key of the record, whose murmur2 hash gives the partition"""
    mixture: Mixture
    """the stated belief, in the units of the coordinates"""
    time: Time
    """time of the stated belief: seconds since the epoch UTC, or RFC 3339 with offset"""
    mode: Literal["replace", "product"] = "replace"
    """whether to replace the belief or to multiply it by the mixture, as independent evidence"""
    coordinates: Several[Name] | None = None
    """names of the mixture's coordinates; absent: all, in the model's order"""
    id: Identifier | None = None
    """identifier chosen by the sender; no unit"""

    @field_validator("coordinates")
    @classmethod
    def _as_many_as_the_mixture(
        cls, coordinates: tuple[str, ...] | None, info: ValidationInfo
    ) -> tuple[str, ...] | None:
        if coordinates is None:
            return None
        if not distinct(coordinates):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        mixture: Mixture | None = info.data.get("mixture")
        if mixture is not None and mixture.dimension != len(coordinates):
            raise PydanticCustomError(
                "wrong_size",
                "expected {expected} names, one for each coordinate of the mixture",
                {"expected": mixture.dimension},
            )
        return coordinates

    def check_fits(self, names: tuple[str, ...]) -> None:
        """Check that the prior fits a model with the coordinates `names`.

        Raises:
            Unusable: `wrong_length` if the prior names no coordinates and has another number than the model;
                `missing_coordinates` if it names one that the model lacks.
        """
        if self.coordinates is None:
            if self.mixture.dimension != len(names):
                wanted = f"{len(names)} coordinates ({', '.join(names)})"
                raise Unusable(
                    Reason.wrong_length, f"mixture: the model has {wanted}, got {self.mixture.dimension}"
                )
            return
        if missing := [name for name in self.coordinates if name not in names]:
            raise Unusable(
                Reason.missing_coordinates,
                f"coordinates: the model's state {list(names)} lacks {', '.join(missing)}",
            )


class LogPosition(Message):
    """A position in one partition of a topic."""

    topic_id: Identifier
    """the broker's id of the topic; a topic that is created again has another one"""
    partition: Count
    """partition of the topic; no unit"""
    offset: Count
    """offset of the first record after the position; no unit"""


class Reset(Message):
    """Forgets an entity: its belief, history and waiting events; its next observation starts from its model's prior."""

    most_parts: ClassVar[int] = 1_000

    entity: Name
    """entity to forget; also the key of the record"""
    reset: Literal[True]
    """always true; distinguishes a reset from a prior; no unit"""
    time: Time
    """time of the posterior that reports the reset: seconds since the epoch UTC, or RFC 3339; later observations are
    used whatever their time"""
    observations_before: LogPosition | None = None
    """position in the entity's partition of observations; those before it are forgotten too, even if the worker has not
    read them yet; absent: only those that the worker has read"""
    id: Identifier | None = None
    """identifier chosen by the sender; another reset with the same id changes nothing; no unit"""


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
