"""Units of times that are numbers, as tables and payloads of devices have them."""

from __future__ import annotations

from typing import Any

TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Units in a second, by the name of the unit."""


def seconds(time: Any, unit: str) -> Any:
    """Convert a time to seconds. Anything but a number is returned unchanged, for validation to refuse."""
    if unit == "s" or not isinstance(time, int | float) or isinstance(time, bool):
        return time
    try:
        return time / TIME_UNITS[unit]
    except OverflowError:  # a whole number that is no time in any unit
        return time
