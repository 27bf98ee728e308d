"""Persistent errors: the part of a sensor's error that lasts from one report to the next.

The error of a reported number is noise, which is independent, plus persistent errors. Each of these is an
Ornstein-Uhlenbeck process, with a stationary deviation and a correlation time (G. E. Uhlenbeck and L. S. Ornstein, "On
the theory of the Brownian motion", Physical Review 36, 1930); of infinite correlation time it is a constant that is
not known. For each entity that the sensor reports about it is a hidden coordinate, after those of the state. Sensors
that name the same error share it.

An error adds to the reported number, or multiplies a part of it (`Gain`): a scale, for instance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

MOST_ERRORS = 64  # of one entity at a time
MOST_GAIN = 0.5  # deviation of what multiplies: with more, the report is as likely to have the other sign


class PersistentError(NamedTuple):
    """An error that lasts; the same one has the same name and the same numbers.

    Attributes:
        name: what it is an error of.
        deviation: stationary standard deviation, in the reported unit.
        correlation_time: in seconds; infinite for a constant.
    """

    name: str
    deviation: float
    correlation_time: float = math.inf

    def check(self) -> None:
        """Raise ValueError, with the name of the argument, if a number is not positive, or a deviation not finite."""
        if not (self.deviation > 0 and math.isfinite(self.deviation)):
            raise ValueError(f"persistent_deviation: must be positive and finite, got {self.deviation}")
        if not self.correlation_time > 0:
            raise ValueError(f"correlation_time: must be positive, got {self.correlation_time}")


class Gain(NamedTuple):
    """How an error e multiplies: the report is of ``h + factor (h − reference) e``, and e has no unit of its own.

    Attributes:
        reference: what is not multiplied, in the unit of h.
        factor: share of the rest by which one unit of e changes it.
    """

    reference: float = 0.0
    factor: float = 1.0


class OfRow(NamedTuple):
    """A persistent error of one of a sensor's numbers; it adds to that number, or multiplies by its gain."""

    row: int
    error: PersistentError
    gain: Gain | None = None


def require_room(errors: Iterable[PersistentError]) -> None:
    """Raise ValueError, with their names, if there are more errors than an entity may have at a time."""
    names = [error.name for error in errors]
    if len(names) > MOST_ERRORS:
        raise ValueError(
            f"persistent_deviation: {len(names)} errors that last, at most {MOST_ERRORS}: {', '.join(names)}"
        )
