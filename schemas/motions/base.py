"""Base of all motions, and checks that they share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import MAXIMUM_COORDINATES, Message, Name, Number, distinct

NonNegative = Annotated[Number, Field(ge=0)]
Names = Annotated[
    tuple[Name, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COORDINATES)
]
Pair = Annotated[tuple[Name, ...], Field(fail_fast=True), Field(min_length=2, max_length=2)]
Inputs = Annotated[tuple[Name, ...], Field(fail_fast=True), Field(max_length=MAXIMUM_COORDINATES)]
Each = Annotated[tuple[Number, ...], Field(fail_fast=True), Field(max_length=MAXIMUM_COORDINATES)]
EachNonNegative = Annotated[
    tuple[NonNegative, ...], Field(fail_fast=True), Field(max_length=MAXIMUM_COORDINATES)
]


class MotionBase(Message):
    """Base of every motion.

    Sensors of kind `control` report the inputs of a motion (odometry, accelerations); without reports they are zero.
    """

    @property
    def coordinate_names(self) -> tuple[str, ...] | None:
        """Names of the coordinates that it moves, which must be those of the state; None if any are allowed."""
        return None

    @property
    def sizes(self) -> dict[str, int]:
        """Number of entries of each field that has one entry per coordinate."""
        return {}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of its inputs, in order."""
        return ()

    def complaint(self, time: float) -> str | None:
        """Explain why the motion has no state at `time`, in seconds since the epoch; None if it has one."""
        return None


def sizes(**fields: object) -> dict[str, int]:
    """Return the number of entries of each field that is a tuple."""
    return {name: len(value) for name, value in fields.items() if isinstance(value, tuple)}


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that the names are distinct."""
    if not distinct(names):
        raise PydanticCustomError("repeated_name", "expected each name once")
    return names


def in_step(names: tuple[str, ...], info: ValidationInfo, *others: str, singular: str) -> tuple[str, ...]:
    """Check that there are as many names as in the first of `others`, and that they share none with any of them."""
    given = [info.data.get(other) for other in others]
    if given[0] is not None and len(names) != len(given[0]):
        raise PydanticCustomError(
            "wrong_size",
            "expected one {singular} for each position",
            {"singular": singular},
        )
    if None not in given and not distinct(name for group in (*given, names) for name in group or ()):
        raise PydanticCustomError(
            "repeated_name",
            "expected each coordinate once in {fields}",
            {"fields": " and ".join([*others, str(info.field_name)])},
        )
    return names
