"""Closed list of the reasons why a message cannot be used, and the reason for a pydantic error."""

from __future__ import annotations

import math
from enum import StrEnum

from pydantic import ValidationError


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


# Our own validators raise errors of these types; the others are pydantic's.
_BY_TYPE = {
    "json_invalid": Reason.not_json,
    "finite_number": Reason.not_finite,
    "not_finite": Reason.not_finite,
    "invalid_covariance": Reason.invalid_covariance,
    "invalid_time": Reason.invalid_time,
    "wrong_length": Reason.wrong_length,
}
# If a message has several faults, the first matching entry is the reason.
_ORDER = (
    Reason.not_json,
    Reason.not_finite,
    Reason.invalid_time,
    Reason.invalid_covariance,
    Reason.wrong_length,
)


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
    return next((reason for reason in _ORDER if reason in found), Reason.invalid)


def _is_length(kind: str, value: object) -> bool:
    """Whether a fault is of the length; pydantic also calls a list too short whose first item is faulty."""
    return kind == "too_long" or (kind == "too_short" and not value)
