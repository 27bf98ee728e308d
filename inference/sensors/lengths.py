"""Sensors of coordinates, and of lengths: a distance or a speed.

`inference.sensors` describes the common arguments and errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.measurement_functions import Program, resolve
from beliefstream.inference.likelihood.observations import FUNCTION, LINEAR, RANGE
from beliefstream.inference.sensors.checks import located, positive, selection, variance
from beliefstream.inference.sensors.placement import Placement
from beliefstream.inference.sensors.readings import Calibration, Sensor


def linear(
    matrix: ArrayLike,
    covariance: ArrayLike,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a linear sensor, ``h(x) = matrix x``.

    An outlier has ten times the standard deviation.

    Args:
        matrix: coefficients, ``(m, D)``.
        covariance: of the noise, in squared reported units, ``(m, m)``.
        outlier_probability: probability of an outlier; 0 with `noise`, whose components describe outliers.
        calibration: see `inference.sensors`; noise only for ``m = 1``.

    Raises:
        ValueError: the shapes do not agree, the covariance is not positive definite, or `noise` is not allowed.
    """
    rows = np.atleast_2d(np.asarray(matrix, float))
    spread = np.atleast_2d(np.asarray(covariance, float))
    if calibration.get("noise") is None:
        return Sensor(LINEAR, rows, np.zeros(len(rows)), spread, outlier_probability, **calibration)
    if len(rows) != 1:
        raise ValueError(f"noise: expected a sensor of one number, got {len(rows)} rows")
    if outlier_probability:
        raise ValueError(
            f"outlier_probability: expected 0 with noise, got {outlier_probability}; add a component to the noise"
        )
    program, flat = Program.of(resolve("projection"), 1, {}, None)
    return Sensor(FUNCTION, rows, np.zeros(1), spread, program=program, parameters=flat, **calibration)


def position(
    axes: Sequence[int],
    dimension: int,
    covariance: ArrayLike,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the coordinates `axes`; `covariance` ``(m, m)``. See `linear`."""
    return linear(selection(axes, dimension), covariance, outlier_probability, **calibration)


def range_to(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_range: float = 100.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the distance from `origin`, in the unit of the coordinates.

    Outliers are uniform on ``[0, maximum_range]``.
    """
    place = located(origin, axes)
    return Sensor(
        RANGE,
        selection(axes, dimension),
        place,
        variance(standard_deviation),
        outlier_probability,
        positive("maximum_range", maximum_range),
        placement=Placement(place, np.eye(len(axes))),
        **calibration,
    )


def speed(
    axes: Sequence[int],
    dimension: int,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_speed: float = 100.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the length of a velocity, whose coordinates are `axes`, in their unit.

    Outliers are uniform on ``[0, maximum_speed]``.
    """
    zero = np.zeros(len(axes))
    top = positive("maximum_speed", maximum_speed)
    made = range_to(axes, dimension, zero, standard_deviation, outlier_probability, top, **calibration)
    return replace(made, placement=None)
