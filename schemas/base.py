"""Base of all messages: configuration, scalar types, and errors that name the field and the value."""

from __future__ import annotations

import functools
import math
import re
import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NamedTuple, TypeGuard, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

MAXIMUM_COORDINATES = 16  # of a state
MAXIMUM_VALUES = 64  # in one observation
MOST_OF_A_NAME = 128  # characters
_NAME = rf"[A-Za-z0-9._:/@+-]{{1,{MOST_OF_A_NAME}}}"
_KEY = re.compile(_NAME.encode())
_INVISIBLE = r"\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_IDENTIFIER, _UNIT = (f"^[^{_INVISIBLE}]{{1,{most}}}$" for most in (128, 32))
_IN_WORDS = {  # patterns whose faults a sender meets
    f"^{_NAME}$": f"expected 1 to {MOST_OF_A_NAME} of the characters A-Z a-z 0-9 . _ : / @ + -",
    _IDENTIFIER: "expected 1 to 128 visible characters",
    _UNIT: "expected 1 to 32 visible characters",
}
_WITHOUT_VALUE = "missing", "json_invalid", "union_tag_invalid"  # there is none, or the message has it
_MOST_FAULTS = 4  # in one line; the rest is counted
_LONGEST = 400  # characters of a fault's message, some of which quote the input
_MOST_READ = 64  # faults that are read; a message may have one per field


class Reason(StrEnum):
    """Reason of a dead letter; the topic has no others."""

    too_large = "too_large"
    not_json = "not_json"
    invalid = "invalid"
    not_finite = "not_finite"
    invalid_time = "invalid_time"
    invalid_covariance = "invalid_covariance"
    key_mismatch = "key_mismatch"
    wrong_partition = "wrong_partition"
    unknown_sensor = "unknown_sensor"
    unknown_entity = "unknown_entity"
    wrong_length = "wrong_length"
    missing_coordinates = "missing_coordinates"
    impossible = "impossible"
    future = "future"
    late = "late"
    invalid_definition = "invalid_definition"
    numerical = "numerical"


# Our own validators raise errors of these types; the others are pydantic's. The first of several is the reason.
_BY_TYPE = {
    "json_invalid": Reason.not_json,
    "finite_number": Reason.not_finite,
    "not_finite": Reason.not_finite,
    "invalid_time": Reason.invalid_time,
    "invalid_covariance": Reason.invalid_covariance,
    "wrong_length": Reason.wrong_length,
}


def reason_of(error: ValidationError) -> Reason:
    """Return the most specific reason for a validation error; `Reason.invalid` if none matches."""
    found: set[Reason] = set()
    for fault in error.errors(include_url=False, include_context=False):
        value = fault["input"]
        if isinstance(value, float) and not math.isfinite(value):
            found.add(Reason.not_finite)
        elif fault["loc"][:1] == ("value",) and _is_length(fault["type"], value):
            found.add(Reason.wrong_length)
        elif fault["type"] in _BY_TYPE:
            found.add(_BY_TYPE[fault["type"]])
    return next((reason for reason in _BY_TYPE.values() if reason in found), Reason.invalid)


def _is_length(kind: str, value: object) -> bool:
    """Whether a fault is of the length; pydantic also calls a list too short whose first item is faulty."""
    return kind == "too_long" or (kind == "too_short" and not value)


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A finite number; strings and booleans are rejected."""

Vector = Annotated[tuple[Number, ...], Field(fail_fast=True)]
Matrix = Annotated[tuple[Vector, ...], Field(fail_fast=True)]
Name = Annotated[str, Field(strict=True, pattern=f"^{_NAME}$")]
"""A name of an entity, sensor, model or coordinate: 1 to 128 characters out of `A-Z a-z 0-9 . _ : / @ + -`."""

T = TypeVar("T")
OneEach = Annotated[tuple[T, ...], Field(fail_fast=True), Field(max_length=MAXIMUM_COORDINATES)]
"""At most one for each coordinate of a state."""
Several = Annotated[tuple[T, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COORDINATES)]
"""Coordinates of a state, or one for each of them."""
Pair = Annotated[tuple[T, ...], Field(fail_fast=True), Field(min_length=2, max_length=2)]

Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, Field(strict=True, ge=0)]

Identifier = Annotated[str, Field(strict=True, pattern=_IDENTIFIER)]
"""A text of 1 to 128 characters, without control characters, line ends or invisible characters."""

Unit = Annotated[str, Field(strict=True, pattern=_UNIT)]
"""A unit of 1 to 32 characters; the characters of an `Identifier` are allowed."""


def is_name(key: bytes | None) -> TypeGuard[bytes]:
    """Whether a record's key is a valid `Name`."""
    return key is not None and len(key) <= MOST_OF_A_NAME and _is_name(key)


@functools.lru_cache(65_536)  # nearly all come again
def _is_name(key: bytes) -> bool:
    return _KEY.fullmatch(key) is not None


class Unusable(ValueError):
    """Raised for a message that cannot be used; `reason` is from the closed list, `detail` is one line of text."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = printable(detail)  # it quotes the input
        super().__init__(f"{reason}: {self.detail}")


class Message(BaseModel):
    """Base of all messages: immutable, no unknown fields, no NaN and no infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    defines: ClassVar[bool] = False
    """Whether the message is a definition (a sensor or model); a faulty one then has reason `invalid_definition`."""

    most_parts: ClassVar[int] = 100_000
    """Largest number of commas and colons in its JSON, which bounds its values and fields; checked before parsing."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Put each description, which is the docstring of its field, on one line; constants need none."""
        made = handler(schema)
        for field in handler.resolve_ref_schema(made).get("properties", {}).values():
            if "const" in field:
                field.setdefault("description", f"always {field['const']}")
            if "description" in field:
                field["description"] = " ".join(field["description"].split())
        return made

    def to_json(self) -> bytes:
        """Serialise to UTF-8 JSON without absent fields; parsing it gives an equal message."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)


_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = _shortened.maxlong = 80


def explain(error: ValidationError) -> str:
    """Explain an error in one line, with each bad field, the problem and the value: `field: message (value)`."""
    faults: dict[str, list[_Fault]] = {}
    for fault in error.errors(include_url=False)[:_MOST_READ]:
        value = "" if fault["type"] in _WITHOUT_VALUE else f" ({_show(fault['input'])})"
        faults.setdefault(_path(fault["loc"]), []).append(
            _Fault(_message(fault)[:_LONGEST], value, fault["type"].endswith("_type"))
        )
    lines = [_line(path, found) for path, found in faults.items() if not _has_deeper(path, faults)]
    more = len(lines) + max(0, error.error_count() - _MOST_READ) - _MOST_FAULTS
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join(lines[:_MOST_FAULTS] + rest)


def unusable(error: ValidationError, *, defines: bool = False) -> Unusable:
    """Convert a validation error to `Unusable`; `defines` says that the message is a definition."""
    reason = reason_of(error)
    if defines and reason not in (Reason.not_json, Reason.not_finite):
        reason = Reason.invalid_definition
    return Unusable(reason, explain(error))


def check_parts(raw: bytes, most: int) -> None:
    """Raise Unusable if JSON has more commas and colons than `most`, because parsing it would take long."""
    if len(raw) > most and raw.count(b",") + raw.count(b":") > most:
        raise Unusable(Reason.too_large, f"message: expected at most {most} values and fields")


def printable(text: str, but: str = "") -> str:
    """Escape all characters of a text except visible ones, spaces and those in `but`.

    Untrusted text then cannot move a terminal's cursor, or start a new line in a log.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in but else each.encode("unicode_escape").decode() for each in text
    )


def distinct(names: Iterable[str]) -> bool:
    """Whether no name occurs twice."""
    listed = list(names)
    return len(set(listed)) == len(listed)


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check that the names are distinct."""
    if not distinct(names):
        raise PydanticCustomError("repeated_name", "expected each name once")
    return names


class _Fault(NamedTuple):
    message: str
    value: str  # in parentheses, shortened; empty if there is none
    is_wrong_type: bool  # the value has another type than this alternative


def _message(fault: ErrorDetails) -> str:
    """Say what is wrong: pydantic's words, but for patterns and kinds."""
    context = fault.get("ctx", {})
    if fault["type"] == "string_pattern_mismatch":
        return _IN_WORDS.get(context["pattern"], fault["msg"])
    if fault["type"] != "union_tag_invalid":
        return fault["msg"]
    kind, kinds = context["tag"][:_LONGEST], context["expected_tags"].replace("'", "").split(", ")
    near = get_close_matches(kind, kinds, 1)
    return f"there is no kind {kind!r}; " + (
        f"is it {near[0]!r}?" if near else f"there are {', '.join(kinds)}"
    )


def _line(path: str, faults: list[_Fault]) -> str:
    """Join the faults of one field, one per type alternative, by "or"; prefer those that match the value's type."""
    reported = [fault for fault in faults if not fault.is_wrong_type] or faults
    first, *others = dict.fromkeys(fault.message for fault in reported)
    message = " or ".join([first, *(other.removeprefix("Input should be ") for other in others)])
    return f"{path}: {message}{faults[0].value}"


def _has_deeper(path: str, paths: Iterable[str]) -> bool:
    """Whether another faulty field lies inside this one; its fault is more precise (alternatives of a union)."""
    return any(other.startswith((f"{path}.", f"{path}[")) for other in paths)


def _path(location: tuple[int | str, ...]) -> str:
    """Path of a field in the message without pydantic's type labels: `value[1]` for `("value", "tuple[...]", 1)`."""
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
    except ValueError:  # an integer too long for Python to print; 3.14 abbreviates it
        text = f"a {type(value).__name__} too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


M = TypeVar("M", bound=Message)


def check_size(raw: bytes | None, most: int) -> None:
    """Raise Unusable with reason `too_large` if a message has more than `most` bytes."""
    if raw is not None and len(raw) > most:
        raise Unusable(Reason.too_large, f"message: expected at most {most} bytes, got {len(raw)}")


def parse(message: type[M], raw: bytes | None) -> M:
    """Parse a message from UTF-8 JSON; use `parse_sensor` for sensors.

    Raises:
        Unusable: the detail names the field and the value. The reason is `too_large`, `not_json`, `not_finite`,
            `invalid_time`, `invalid_covariance`, `wrong_length` or `invalid`; for a model `invalid_definition`.
    """
    if raw is None:
        raise Unusable(Reason.not_json, "message: expected JSON, got a record without a value")
    check_parts(raw, message.most_parts)
    try:
        return message.model_validate_json(raw)
    except ValidationError as error:
        raise unusable(error, defines=message.defines) from error


def validated(message: type[M], fields: Any) -> M:
    """Make a message of its fields by name; raises Unusable as `parse`."""
    try:
        return message.model_validate(fields)
    except ValidationError as error:
        raise unusable(error, defines=message.defines) from error
