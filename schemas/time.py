"""Phenomenon time: seconds since the epoch; input may also be RFC 3339."""

from __future__ import annotations

import functools
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Number

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Years 1 to 9999, the range of RFC 3339.
EARLIEST, LATEST = -62_135_596_800.0, 253_402_300_799.0
# A time of at least this number (year 5138 in seconds, 1973 in the named unit) is probably not in seconds.
_OTHER_UNITS = ((1e11, 1e3, "milliseconds"), (1e14, 1e6, "microseconds"), (1e17, 1e9, "nanoseconds"))
_TOO_LARGE = 1e20  # the year 5138 in nanoseconds; above it no unit is plausible
# Python 3.14 takes hour 24, which RFC 3339 does not have.
_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?!24)\d\d:\d\d:)(\d\d)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


def from_rfc3339(text: str) -> float:
    """Convert an RFC 3339 time with offset (`2026-01-31T12:00:00.25+01:00`) to seconds since the epoch.

    Raises:
        ValueError: the text is not such a time, or it lies outside the years 1 to 9999.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time with an offset")
    day, minute, second, fraction, offset = match.groups()
    leap = second == "60"  # datetime has no leap seconds: use the second after :59
    moment = datetime.fromisoformat(f"{day}T{minute}{'59' if leap else second}{offset.upper()}")
    return (moment - _EPOCH).total_seconds() + leap + float(fraction or 0)


def to_rfc3339(time: float) -> str:
    """Convert seconds since the epoch to an RFC 3339 time in UTC, to the microsecond.

    Raises:
        ValueError: the time is not finite, or outside the years 1 to 9999.
    """
    if not EARLIEST <= time < LATEST + 1:
        raise ValueError(f"time: expected seconds since the epoch within the years 1 to 9999, got {time}")
    part, whole = math.modf(time)
    more, microseconds = divmod(round(part * 1e6), 1_000_000)
    return f"{_to_the_second(int(whole) + more)}.{microseconds:06d}Z"


@functools.lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]


def unit_hint(time: float) -> str:
    """Return a hint if a time is probably in milliseconds, microseconds or nanoseconds; otherwise an empty string."""
    if not _OTHER_UNITS[0][0] <= time < _TOO_LARGE:
        return ""
    _, scale, unit = [entry for entry in _OTHER_UNITS if entry[0] <= time][-1]
    return f"looks like {unit} since the epoch ({to_rfc3339(time // scale)[:19]}Z); give seconds"


def _seconds(value: Any) -> float:
    is_number = not isinstance(value, str)
    if not is_number:
        try:
            value = from_rfc3339(value)
        except ValueError as error:
            raise PydanticCustomError(
                "invalid_time", "expected seconds since the epoch or an RFC 3339 time with an offset"
            ) from error
    elif isinstance(value, bool) or not isinstance(value, (float, int)):
        raise PydanticCustomError("invalid_time", "expected seconds since the epoch or an RFC 3339 time")
    if not EARLIEST <= value <= LATEST:
        if value - value != 0:  # NaN or infinite
            raise PydanticCustomError("not_finite", "expected a finite number of seconds since the epoch")
        if is_number and (hint := unit_hint(value)):
            raise PydanticCustomError("invalid_time", "{hint}", {"hint": hint})
        raise PydanticCustomError(
            "invalid_time", "expected seconds since the epoch, within the years 1 to 9999"
        )
    return float(value)


Time = Annotated[
    Number,
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": EARLIEST, "maximum": LATEST},
                {"type": "string", "format": "date-time"},
            ]
        },
        mode="validation",
    ),
]
"""Seconds since the epoch (UTC, float64); a finite number or an RFC 3339 string with its offset."""
