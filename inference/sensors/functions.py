"""Sensors with a registered measurement function, built-in or user-defined.

`inference.sensors` describes the common arguments and errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.measurement_functions import (
    Function,
    Measurement,
    Parameters,
    Program,
    resolve,
)
from beliefstream.inference.likelihood.observations import FUNCTION
from beliefstream.inference.sensors.checks import count, located, positive, selection, variance
from beliefstream.inference.sensors.placement import Placement
from beliefstream.inference.sensors.readings import Calibration, Sensor

SPEED_OF_LIGHT = 299_792_458.0  # metres per second


def function(
    measurement: str | Function | Measurement,
    axes: Sequence[int],
    dimension: int,
    standard_deviation: float,
    parameters: Parameters | None = None,
    outlier_probability: float = 0.0,
    outlier_span: float | None = None,
    *,
    origin: ArrayLike | None = None,
    angle: bool | None = None,
    output: int | None = None,
    outputs: int | None = None,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of ``h(x) = f(x[axes] − origin, **parameters)`` for any function f.

    Args:
        measurement: the function, or its name in `inference.likelihood.measurement_functions.register`.
        axes: indices of the coordinates that it takes.
        dimension: number of coordinates of the state.
        standard_deviation: of the noise, in the reported unit.
        parameters: numbers, lists or matrices by the name of the function's parameter.
        outlier_probability: probability of an outlier.
        outlier_span: width of the uniform density of outliers, in the unit of h; None for one turn of an angle.
        origin: subtracted from the coordinates. The network computes in single precision, so use it far from zero.
        angle: whether the function returns radians; None for the setting of a registered function.
        output: index of the number to use, if the function returns several.
        outputs: how many numbers the function must return; None if any number will do.
        calibration: see `inference.sensors`.

    Raises:
        ValueError: the function is unknown or does not accept the arguments, or a number is outside its range.
    """
    found = resolve(measurement, angle)
    position = np.zeros(len(axes)) if origin is None else located(origin, axes)
    program, flat = Program.of(found, len(axes), parameters or {}, output, outputs)
    if outlier_span is None and found.angle:
        outlier_span = 2 * math.pi
    if outlier_span is None and outlier_probability:
        raise ValueError(f"outlier_span: required for an outlier_probability of {outlier_probability}")
    if outlier_span is not None:
        outlier_span = positive("outlier_span", outlier_span)
    return Sensor(
        FUNCTION,
        selection(axes, dimension),
        position,
        variance(standard_deviation),
        outlier_probability,
        outlier_span,
        program=program,
        parameters=flat,
        placement=None if origin is None else Placement(position, np.eye(len(axes))),
        **calibration,
    )


def elevation(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the angle at `origin` between the entity and the plane of the first two of three `axes`."""
    count("an elevation", axes, (3,))
    outliers = outlier_probability, math.pi
    made = function(
        "elevation", axes, dimension, standard_deviation, None, *outliers, origin=origin, **calibration
    )
    return replace(made, placement=Placement(made.origin, np.eye(3), made.matrix, np.zeros(3)))


def depth(
    axes: Sequence[int],
    heading_axis: int,
    dimension: int,
    landmark: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_range: float = 100.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of how far `landmark` is ahead of the entity, along its heading: what a stereo camera reports.

    `heading_axis` is the index of the heading, rad; `landmark` has one number for each of two `axes`. Outliers are
    uniform on ``[0, maximum_range]``.
    """
    count("a depth", axes, (2,))
    origin = np.append(located(landmark, axes), 0.0)
    outliers = outlier_probability, positive("maximum_range", maximum_range)
    every = [*axes, heading_axis]
    made = function(
        "landmark_depth", every, dimension, standard_deviation, None, *outliers, origin=origin, **calibration
    )
    return replace(made, placement=Placement(origin[:2], np.eye(3)[:, :2]))


def range_rate(
    position_axes: Sequence[int],
    velocity_axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_speed: float = 100.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the rate of the distance from `origin` (Doppler), positive if it grows.

    Outliers are uniform on ``[-maximum_speed, maximum_speed]``, in the unit of the velocities.
    """
    if len(position_axes) != len(velocity_axes):
        raise ValueError(
            f"velocity_axes: expected {len(position_axes)}, one for each position axis, got {list(velocity_axes)}"
        )
    relative_to = np.concatenate([located(origin, position_axes), np.zeros(len(velocity_axes))])
    axes, rows = [*position_axes, *velocity_axes], len(position_axes)
    outliers = outlier_probability, 2 * positive("maximum_speed", maximum_speed)
    made = function(
        "range_rate", axes, dimension, standard_deviation, None, *outliers, origin=relative_to, **calibration
    )
    return replace(made, placement=Placement(relative_to[:rows], np.eye(2 * rows)[:, :rows]))


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
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of received power, ``reference_power − 10 exponent log₁₀(distance / reference_distance)``, in dB.

    Outliers are uniform on a width of `outlier_span`, dB. `reference_distance` is in the unit of the coordinates.
    """
    numbers = {
        "reference_power": reference_power,
        "exponent": exponent,
        "reference_distance": positive("reference_distance", reference_distance),
    }
    outliers = outlier_probability, outlier_span
    return function(
        "signal_strength",
        axes,
        dimension,
        standard_deviation,
        numbers,
        *outliers,
        origin=origin,
        **calibration,
    )


def time_difference(
    axes: Sequence[int],
    dimension: int,
    first: ArrayLike,
    second: ArrayLike,
    standard_deviation: float,
    propagation_speed: float = SPEED_OF_LIGHT,
    outlier_probability: float = 0.0,
    **calibration: Unpack[Calibration],
) -> Sensor:
    """Make a sensor of the delay of a signal at the receiver `first` after the receiver `second`, in seconds.

    `propagation_speed` is in units of the coordinates per second. Outliers are uniform over all delays that the
    distance between the receivers allows.
    """
    places = located(first, axes, "first"), located(second, axes, "second")
    baseline = float(np.linalg.norm(places[0] - places[1]))
    if not baseline > 0:
        raise ValueError(f"second: expected another position than first, got {places[1].tolist()}")
    numbers = {"propagation_speed": positive("propagation_speed", propagation_speed)}
    outliers = outlier_probability, 2 * baseline / propagation_speed
    made = function(
        "time_difference",
        [*axes, *axes],
        dimension,
        standard_deviation,
        numbers,
        *outliers,
        origin=np.concatenate(places),
        **calibration,
    )
    return replace(made, placement=None)  # it has two
