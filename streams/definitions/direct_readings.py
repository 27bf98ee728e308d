"""Readings of plain observations of plain sensors, which nearly all are; the others take the general way.

`streams.definitions.readings` converts every observation, and says what is wrong with one. For an observation without
noise or a position of its own, the answer depends on its sensor only, but for the number and size of its values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from beliefstream.inference.sensors import Reading, Sensor, needs_position
from beliefstream.streams.definitions.plain_observations import PlainObservation
from beliefstream.streams.definitions.readings import LocalPosition

__all__ = ["DirectReadings", "takes_direct_readings"]


class DirectReadings(NamedTuple):
    """What makes readings of one sensor's plain observations.

    Attributes:
        sensor: over the model's state.
        length: numbers in one report.
        bounds: the lowest and the highest possible number, for each of them; empty if any number is possible.
    """

    sensor: Sensor
    length: int
    bounds: tuple[tuple[float, float], ...]

    def reading(self, observation: PlainObservation) -> Reading | None:
        """Return the reading; None for an observation that the general way refuses, and says why."""
        value = observation.value
        values = value if isinstance(value, list) else (value,)
        if len(values) != self.length:
            return None
        for number, (low, high) in zip(values, self.bounds, strict=False):
            if not low <= number <= high:
                return None
        return Reading(self.sensor, np.array(values))


def takes_direct_readings(sensor: Sensor) -> bool:
    """Whether all its readings follow from their numbers alone: no problem, no position to state or to convert."""
    special = isinstance(sensor, LocalPosition) or sensor.problem is not None
    return not (special or needs_position(sensor))
