"""Sensors of directions, in radians counter-clockwise from the first axis; residuals are wrapped to [−π, π].

Outliers are uniform on the circle. `inference.sensors` describes the common arguments and errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.observations import ANGLE
from beliefstream.inference.sensors.checks import count, located, selection, variance
from beliefstream.inference.sensors.placement import Placement
from beliefstream.inference.sensors.readings import Calibration, Sensor

TURN = 2 * math.pi


def bearing(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the direction from `origin` to the entity in the plane of two `axes`."""
    count("a bearing", axes, (2,))
    matrix, place = selection(axes, dimension), located(origin, axes)
    placement = Placement(place, np.eye(2), matrix, np.zeros(1))
    spread = variance(standard_deviation)
    return Sensor(ANGLE, matrix, place, spread, outlier_probability, TURN, placement=placement, **calibration)


def azimuth(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the direction from `origin` to the entity in the plane of the first two of three `axes`."""
    count("an azimuth", axes, (3,))
    matrix, place = selection(axes, dimension), located(origin, axes)
    placement = Placement(place, np.eye(3)[:2], matrix, np.zeros(3))
    matrix, place, spread = matrix[:2], place[:2], variance(standard_deviation)
    return Sensor(ANGLE, matrix, place, spread, outlier_probability, TURN, placement=placement, **calibration)


def course(
    axes: Sequence[int],
    dimension: int,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the direction of a velocity, whose two coordinates are `axes`."""
    count("a course", axes, (2,))
    matrix, spread = selection(axes, dimension), variance(standard_deviation)
    return Sensor(ANGLE, matrix, np.zeros(2), spread, outlier_probability, TURN, **calibration)


def relative_bearing(
    axes: Sequence[int],
    heading_axis: int,
    dimension: int,
    landmark: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the direction from the entity to `landmark`, relative to its heading.

    `heading_axis` is the index of the heading, rad; `landmark` has one number for each of two `axes`.
    """
    count("a relative bearing", axes, (2,))
    matrix, place = -selection(axes, dimension), -located(landmark, axes)
    turn = selection([heading_axis], dimension)[0]
    return Sensor(
        ANGLE,
        matrix,
        place,
        variance(standard_deviation),
        outlier_probability,
        TURN,
        heading=turn,
        placement=Placement(-place, -np.eye(2)),
        **calibration,
    )


def heading(
    axis: int,
    dimension: int,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the coordinate `axis`, an angle in radians that is reported modulo one turn."""
    turn = -selection([axis], dimension)[0]
    # atan2 of a fixed direction, which is zero, minus the angle
    matrix, place, spread = np.zeros((2, dimension)), np.array([-1.0, 0.0]), variance(standard_deviation)
    return Sensor(ANGLE, matrix, place, spread, outlier_probability, TURN, heading=turn, **calibration)
