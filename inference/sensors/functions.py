"""Sensors with a registered measurement function: built-in ones and the user's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood import built_in_functions as _laws  # noqa: F401  (registers what comes with the library)
from beliefstream.inference.likelihood.measurement_functions import (
    Function,
    Measurement,
    Parameters,
    Program,
    resolve,
)
from beliefstream.inference.likelihood.noise import Noise
from beliefstream.inference.likelihood.observations import FUNCTION
from beliefstream.inference.sensors.checks import count, located, positive, selection, variance
from beliefstream.inference.sensors.readings import Sensor

SPEED_OF_LIGHT = 299_792_458.0  # metres per second


def function(
    measurement: str | Function | Measurement,
    axes: Sequence[int],
    dimension: int,
    standard_deviation: float,
    parameters: Parameters | None = None,
    outlier_probability: float = 0.0,
    outlier_span: float | None = None,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
    *,
    origin: ArrayLike | None = None,
    angle: bool | None = None,
    output: int | None = None,
) -> Sensor:
    """Sensor of ``h(x) = f(x[axes] − origin, **parameters)``, or of its number `output`, for any function f.

    `measurement` is a registered name (`inference.likelihood.measurement_functions.register`) or the function itself;
    set `angle` if it returns radians. Outliers are uniform over a width of `outlier_span`, one turn for an angle. Far
    from zero, subtract an `origin`: the network computes in single precision.
    """
    found = resolve(measurement, angle)
    place = np.zeros(len(axes)) if origin is None else located(origin, axes)
    program, flat = Program.of(found, len(axes), parameters or {}, output)
    if outlier_span is None and found.angle:
        outlier_span = 2 * math.pi
    if outlier_span is None and outlier_probability:
        raise ValueError(f"outlier_span: needed for an outlier_probability of {outlier_probability}")
    if outlier_span is not None:
        outlier_span = positive("outlier_span", outlier_span)
    return Sensor(
        FUNCTION,
        selection(axes, dimension),
        place,
        variance(standard_deviation),
        outlier_probability,
        outlier_span,
        scale,
        bias,
        noise,
        program=program,
        parameters=flat,
    )


def elevation(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Angle at `origin` above the plane of the first two of three `axes`."""
    count("an elevation", axes, (3,))
    return function(
        "elevation",
        axes,
        dimension,
        standard_deviation,
        None,
        outlier_probability,
        math.pi,
        scale,
        bias,
        noise,
        origin=origin,
    )


def range_rate(
    position_axes: Sequence[int],
    velocity_axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_speed: float = 100.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Rate at which the distance from `origin` grows (Doppler); outliers uniform within ±`maximum_speed`."""
    if len(position_axes) != len(velocity_axes):
        raise ValueError(
            f"velocity_axes: expected {len(position_axes)} as of the position, got {list(velocity_axes)}"
        )
    place = np.concatenate([located(origin, position_axes), np.zeros(len(velocity_axes))])
    span = 2 * positive("maximum_speed", maximum_speed)
    axes = [*position_axes, *velocity_axes]
    return function(
        "range_rate",
        axes,
        dimension,
        standard_deviation,
        None,
        outlier_probability,
        span,
        scale,
        bias,
        noise,
        origin=place,
    )


def signal_strength(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    reference_power: float,
    exponent: float,
    reference_distance: float = 1.0,
    outlier_probability: float = 0.0,
    outlier_span: float = 100.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Received power in decibels, ``reference_power − 10 exponent log₁₀(distance / reference_distance)``."""
    numbers = {
        "reference_power": reference_power,
        "exponent": exponent,
        "reference_distance": positive("reference_distance", reference_distance),
    }
    return function(
        "signal_strength",
        axes,
        dimension,
        standard_deviation,
        numbers,
        outlier_probability,
        outlier_span,
        scale,
        bias,
        noise,
        origin=origin,
    )


def time_difference(
    axes: Sequence[int],
    dimension: int,
    first: ArrayLike,
    second: ArrayLike,
    standard_deviation: float,
    propagation_speed: float = SPEED_OF_LIGHT,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
    noise: Noise | None = None,
) -> Sensor:
    """Delay in seconds with which the receiver at `first` hears the entity after the one at `second`.

    Outliers are uniform over what the distance between the receivers allows.
    """
    places = located(first, axes, "first"), located(second, axes, "second")
    baseline = float(np.linalg.norm(places[0] - places[1]))
    if not baseline > 0:
        raise ValueError(f"second: must be another place than first, got {places[1].tolist()} twice")
    numbers = {"propagation_speed": positive("propagation_speed", propagation_speed)}
    return function(
        "time_difference",
        [*axes, *axes],
        dimension,
        standard_deviation,
        numbers,
        outlier_probability,
        2 * baseline / propagation_speed,
        scale,
        bias,
        noise,
        origin=np.concatenate(places),
    )
