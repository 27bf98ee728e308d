"""Prior: a belief stated by an operator, which replaces the entity's belief or multiplies it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import MAXIMUM_COORDINATES, Identifier, Message, Name, Unusable, distinct
from beliefstream.schemas.mixture import Mixture
from beliefstream.schemas.reasons import Reason
from beliefstream.schemas.time import Time


class Prior(Message):
    """A prior for one entity, applied at its time."""

    entity: Annotated[
        Name,
        Field(
            description="entity of the prior; also the key of the record, whose murmur2 hash gives the partition"
        ),
    ]
    mixture: Annotated[Mixture, Field(description="the stated belief, in the units of the coordinates")]
    time: Annotated[
        Time,
        Field(description="time of the stated belief: seconds since the epoch UTC, or RFC 3339 with offset"),
    ]
    mode: Annotated[
        Literal["replace", "product"],
        Field(
            description="whether to replace the belief or to multiply it by the mixture, as independent evidence"
        ),
    ] = "replace"
    coordinates: Annotated[
        Annotated[
            tuple[Name, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COORDINATES)
        ]
        | None,
        Field(description="names of the mixture's coordinates; absent: all, in the model's order"),
    ] = None
    id: Annotated[Identifier | None, Field(description="identifier chosen by the sender; no unit")] = None

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
