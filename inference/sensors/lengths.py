"""Sensors of coordinates, and of lengths: a distance or a speed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.measurement_functions import Program, resolve
from beliefstream.inference.likelihood.noise import Noise
from beliefstream.inference.likelihood.observations import FUNCTION, LINEAR, RANGE
from beliefstream.inference.sensors.checks import located, positive, selection, variance
from beliefstream.inference.sensors.readings import Sensor


def linear(
    matrix: ArrayLike,
    covariance: ArrayLike,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Linear sensor: ``h(x) = matrix x``; `matrix` ``(m, D)``, `covariance` ``(m, m)``. Outliers are ten times as wide.

    With `noise`, `matrix` must have one row, and outliers must be a component of that noise.
    """
    rows = np.atleast_2d(np.asarray(matrix, float))
    spread = np.atleast_2d(np.asarray(covariance, float))
    if noise is None:
        return Sensor(LINEAR, rows, np.zeros(len(rows)), spread, outlier_probability, None, scale, bias)
    if len(rows) != 1:
        raise ValueError(f"noise: serves a sensor of one number, this one has {len(rows)}")
    if outlier_probability:
        raise ValueError(f"outlier_probability: {outlier_probability} is to be a component of the noise")
    program, flat = Program.of(resolve("projection"), 1, {}, None)
    return Sensor(
        FUNCTION,
        rows,
        np.zeros(1),
        spread,
        scale=scale,
        bias=bias,
        noise=noise,
        program=program,
        parameters=flat,
    )


def position(
    axes: Sequence[int],
    dimension: int,
    covariance: ArrayLike,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """The state's own coordinates `axes`."""
    return linear(selection(axes, dimension), covariance, outlier_probability, scale, bias, noise)


def range_to(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_range: float = 100.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Distance from `origin`, in the units of the coordinates; outliers uniform on ``[0, maximum_range]``."""
    return Sensor(
        RANGE,
        selection(axes, dimension),
        located(origin, axes),
        variance(standard_deviation),
        outlier_probability,
        positive("maximum_range", maximum_range),
        scale,
        bias,
        noise,
    )


def speed(
    axes: Sequence[int],
    dimension: int,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_speed: float = 100.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Length of the velocity with coordinates `axes`; outliers uniform on ``[0, maximum_speed]``."""
    still = np.zeros(len(axes))
    top = positive("maximum_speed", maximum_speed)
    return range_to(axes, dimension, still, standard_deviation, outlier_probability, top, scale, bias, noise)
