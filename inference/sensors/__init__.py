"""Sensors: measurement models with their noise and calibration.

A `Sensor` holds plain numbers over a state of ``D`` coordinates. The functions below make one from the coordinates
(`axes`) that it sees. `encode` turns reports of many sensors into one batch of observations. Angles are in radians,
counter-clockwise from the first axis; a compass is a heading with ``scale=-1, bias=math.pi / 2``. Besides its own
numbers, every scalar sensor takes

- `outlier_probability`: chance that the value is uniform over the sensor's range instead;
- `scale`, `bias`: calibration; a reported value is ``scale · h(state) + bias + noise``;
- `noise`: a non-Gaussian noise (`Noise`), None for Gaussian.

All raise a ValueError that names the field and the value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beliefstream.inference.likelihood.noise import Array, Exponential, Noise, Uniform
from beliefstream.inference.sensors.angles import azimuth, bearing, course, heading, relative_bearing
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.functions import (
    SPEED_OF_LIGHT,
    elevation,
    function,
    range_rate,
    signal_strength,
    time_difference,
)
from beliefstream.inference.sensors.lengths import linear, position, range_to, speed
from beliefstream.inference.sensors.readings import COMPOSITE, Reading, Sensor, expand

__all__ = [
    "SPEED_OF_LIGHT",
    "Array",
    "Exponential",
    "Noise",
    "Reading",
    "Sensor",
    "Uniform",
    "azimuth",
    "bearing",
    "composite",
    "course",
    "elevation",
    "encode",
    "expand",
    "function",
    "heading",
    "linear",
    "position",
    "range_rate",
    "range_to",
    "relative_bearing",
    "signal_strength",
    "speed",
    "time_difference",
]


def composite(parts: Sequence[Sensor]) -> Sensor:
    """One report of several numbers: the values of `parts` in order, each with its own calibration and outliers."""
    if not parts:
        raise ValueError("parts: a composite needs at least one")
    sizes = sorted({part.dimension for part in parts})
    if len(sizes) > 1:
        raise ValueError(f"parts: must be over the same coordinates, got {sizes} of them")
    length = sum(part.value_length for part in parts)
    covariance, start = np.zeros((length, length)), 0
    for part in parts:
        stop = start + part.value_length
        covariance[start:stop, start:stop] = part.covariance
        start = stop
    return Sensor(COMPOSITE, np.zeros((0, sizes[0])), np.zeros(0), covariance, parts=tuple(parts))
