"""Sensors of directions, in radians counter-clockwise from the first axis; residuals are wrapped to [−π, π].

Outliers are uniform on the circle. `inference.sensors` describes the common arguments and errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.noise import Array, Noise
from beliefstream.inference.likelihood.observations import ANGLE
from beliefstream.inference.sensors.checks import count, located, selection, variance
from beliefstream.inference.sensors.placement import Placement
from beliefstream.inference.sensors.readings import Sensor


def bearing(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Make a sensor of the direction from `origin` to the entity in the plane of two `axes`."""
    count("a bearing", axes, (2,))
    matrix, place = selection(axes, dimension), located(origin, axes)
    placement = Placement(place, np.eye(2), matrix, np.zeros(1))
    return _angle(matrix, place, None, standard_deviation, outlier_probability, scale, bias, noise, placement)


def azimuth(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Make a sensor of the direction from `origin` to the entity in the plane of the first two of three `axes`."""
    count("an azimuth", axes, (3,))
    matrix, place = selection(axes, dimension), located(origin, axes)
    placement = Placement(place, np.eye(3)[:2], matrix, np.zeros(3))
    return _angle(
        matrix[:2], place[:2], None, standard_deviation, outlier_probability, scale, bias, noise, placement
    )


def course(
    axes: Sequence[int],
    dimension: int,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Make a sensor of the direction of a velocity, whose two coordinates are `axes`."""
    count("a course", axes, (2,))
    matrix = selection(axes, dimension)
    return _angle(matrix, np.zeros(2), None, standard_deviation, outlier_probability, scale, bias, noise)


def relative_bearing(
    axes: Sequence[int],
    heading_axis: int,
    dimension: int,
    landmark: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Make a sensor of the direction from the entity to `landmark`, relative to its heading.

    `heading_axis` is the index of the heading, rad; `landmark` has one number for each of two `axes`.
    """
    count("a relative bearing", axes, (2,))
    matrix, place = -selection(axes, dimension), -located(landmark, axes)
    turn = selection([heading_axis], dimension)[0]
    placement = Placement(-place, -np.eye(2))
    return _angle(matrix, place, turn, standard_deviation, outlier_probability, scale, bias, noise, placement)


def heading(
    axis: int,
    dimension: int,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Make a sensor of the coordinate `axis`, an angle in radians that is reported modulo one turn."""
    turn = -selection([axis], dimension)[0]
    # atan2 of a fixed direction, which is zero, minus the angle
    matrix, place = np.zeros((2, dimension)), np.array([-1.0, 0.0])
    return _angle(matrix, place, turn, standard_deviation, outlier_probability, scale, bias, noise)


def _angle(
    matrix: Array,
    place: Array,
    turn: Array | None,
    standard_deviation: float,
    outlier_probability: float,
    scale: float,
    bias: float,
    noise: Noise | None,
    placement: Placement | None = None,
) -> Sensor:
    return Sensor(
        ANGLE,
        matrix,
        place,
        variance(standard_deviation),
        outlier_probability,
        2 * math.pi,
        scale,
        bias,
        noise,
        heading=turn,
        placement=placement,
    )
