"""What all messages share: configuration, scalar types, and errors that name the field and the value."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.reasons import Reason, reason_of

MAXIMUM_COORDINATES = 16  # of a state
MAXIMUM_VALUES = 64  # in one observation

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; neither text nor a truth value is taken for one."""

Vector = Annotated[tuple[Number, ...], Field(fail_fast=True)]
Matrix = Annotated[tuple[Vector, ...], Field(fail_fast=True)]

Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9._:/@+-]{1,128}$")]
"""1 to 128 characters out of `A-Z a-z 0-9 . _ : / @ + -`: entities, sensors, models and coordinates."""

Identifier = Annotated[str, Field(strict=True, pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,128}$")]
"""1 to 128 characters, none of them a control character."""


class Unusable(ValueError):
    """A message that cannot be used: `reason` from the closed list, `detail` one line for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Message(BaseModel):
    """Base of everything that travels: immutable, no unknown fields, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    defines: ClassVar[bool] = False
    """Whether it defines something (a sensor, a model), so that a bad one is an `invalid_definition`."""

    def to_json(self) -> bytes:
        """UTF-8 JSON without the fields that are absent; reading it back gives an equal message."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 80
_MOST_FAULTS = 4  # listed in one line; the rest is counted


def explain(error: ValidationError) -> str:
    """One line that names each field at fault, what is wrong and the value: `field: message (value)`."""
    faults: dict[str, list[_Fault]] = {}
    for fault in error.errors(include_url=False, include_context=False):
        shown = "" if fault["type"] in ("missing", "json_invalid") else f" ({_show(fault['input'])})"
        faults.setdefault(_place(fault["loc"]), []).append(
            _Fault(fault["msg"], shown, fault["type"].endswith("_type"))
        )
    lines = [_line(place, found) for place, found in faults.items() if not _deeper(place, faults)]
    rest = [f"and {len(lines) - _MOST_FAULTS} more"] if len(lines) > _MOST_FAULTS else []
    return "; ".join(lines[:_MOST_FAULTS] + rest)


def unusable(error: ValidationError, *, defines: bool = False) -> Unusable:
    """The `Unusable` that says what a validation error says; of a definition if `defines`."""
    reason = reason_of(error)
    if defines and reason not in (Reason.not_json, Reason.not_finite):
        reason = Reason.invalid_definition
    return Unusable(reason, explain(error))


def distinct(names: Iterable[str]) -> bool:
    """Whether no name occurs twice."""
    listed = list(names)
    return len(set(listed)) == len(listed)


class _Fault(NamedTuple):
    message: str
    shown: str  # the value
    of_type: bool  # it is of another type than was tried


def _line(place: str, found: list[_Fault]) -> str:
    """The faults of one field, where a choice of types was open, joined by "or"; that of the type it is, if any."""
    told = [fault for fault in found if not fault.of_type] or found
    first, *others = dict.fromkeys(fault.message for fault in told)
    message = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    return f"{place}: {message}{found[0].shown}"


def _deeper(place: str, faults: Iterable[str]) -> bool:
    """Whether another fault points inside this place, and so says more (alternatives of a union)."""
    return any(other.startswith((f"{place}.", f"{place}[")) for other in faults)


def _place(location: tuple[int | str, ...]) -> str:
    """`("value", "tuple[...]", 1)` as `value[1]`: the path in the message, without pydantic's type labels."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part not in ("float", "str") and not part.startswith(
            ("tuple[", "literal[", "function-", "constrained-")
        ):
            path += ("." if path else "") + (part if part.isprintable() and len(part) <= 80 else _show(part))
    return path or "message"


def _show(value: Any) -> str:
    try:
        text = _shortened.repr(value)
    except ValueError:  # an integer too long for Python to write out
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."
