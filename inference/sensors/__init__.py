"""Sensors: measurement models with their noise and calibration.

The functions below make a `Sensor` over a state of ``D`` coordinates. `encode` converts reports of many sensors to one
batch of observations. A reported value is ``scale · h(state) + bias + noise``, plus errors that last (`with_errors`).
Angles are in radians, counter-clockwise from the first axis; a compass is a heading with ``scale=-1`` and
``bias=math.pi / 2``. Common arguments are

- `axes`, `dimension`: indices of the observed coordinates in the state, and ``D``;
- `origin`: position of the sensor, one number per axis, in the units of the coordinates;
- `standard_deviation`: of the noise, in the reported unit;
- `outlier_probability`: probability that a value is an outlier, which is uniform over the range of the sensor;
- `scale`, `bias`: calibration, in reported units per unit of ``h`` and in reported units;
- `noise`: non-Gaussian noise (`Noise`); None for Gaussian noise.

All functions raise ValueError with the name of the argument and its value.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beliefstream.inference.likelihood.noise import (
    Array as Array,
    Exponential as Exponential,
    Noise as Noise,
    Uniform as Uniform,
)
from beliefstream.inference.sensors.angles import (
    azimuth as azimuth,
    bearing as bearing,
    course as course,
    heading as heading,
    relative_bearing as relative_bearing,
)
from beliefstream.inference.sensors.encoding import encode as encode
from beliefstream.inference.sensors.functions import (
    SPEED_OF_LIGHT as SPEED_OF_LIGHT,
    depth as depth,
    elevation as elevation,
    function as function,
    range_rate as range_rate,
    signal_strength as signal_strength,
    time_difference as time_difference,
)
from beliefstream.inference.sensors.hidden import with_errors as with_errors
from beliefstream.inference.sensors.lengths import (
    linear as linear,
    position as position,
    range_to as range_to,
    speed as speed,
)
from beliefstream.inference.sensors.persistent import Gain as Gain, PersistentError as PersistentError
from beliefstream.inference.sensors.placed import (
    needs_position as needs_position,
    placed as placed,
    without_position as without_position,
)
from beliefstream.inference.sensors.placement import WrongLength as WrongLength
from beliefstream.inference.sensors.problems import of_problem as of_problem
from beliefstream.inference.sensors.readings import (
    COMPOSITE,
    Calibration as Calibration,
    Reading as Reading,
    Sensor as Sensor,
    expand as expand,
)
from beliefstream.inference.sensors.satellites import (
    LocalFrame as LocalFrame,
    SatelliteNoise as SatelliteNoise,
    SatelliteSensor as SatelliteSensor,
    pseudorange as pseudorange,
    pseudorange_rate as pseudorange_rate,
)
from beliefstream.inference.sensors.time_differences import (
    TimeDifferences as TimeDifferences,
    shared_reference as shared_reference,
    time_differences as time_differences,
)


def composite(parts: Sequence[Sensor]) -> Sensor:
    """Make a sensor that reports the values of `parts` in order, each with its own calibration and outliers.

    Raises:
        ValueError: there are no parts, or they have different numbers of coordinates.
    """
    if not parts:
        raise ValueError("parts: expected at least one")
    sizes = sorted({part.dimension for part in parts})
    if len(sizes) > 1:
        raise ValueError(f"parts: expected sensors over the same coordinates, got dimensions {sizes}")
    length = sum(part.value_length for part in parts)
    covariance, start = np.zeros((length, length)), 0
    for part in parts:
        stop = start + part.value_length
        covariance[start:stop, start:stop] = part.covariance
        start = stop
    return Sensor(COMPOSITE, np.zeros((0, sizes[0])), np.zeros(0), covariance, parts=tuple(parts))
