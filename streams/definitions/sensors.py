"""Converts sensor definitions to measurement models."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import pymap3d

from beliefstream.inference import sensors as measurement
from beliefstream.inference.likelihood.noise import Array, Exponential, Noise, Uniform
from beliefstream.inference.sensors import Sensor
from beliefstream.schemas import (
    AzimuthElevationSensor,
    BearingSensor,
    Channel,
    ControlSensor,
    CourseSensor,
    GeodeticSensor,
    HeadingSensor,
    LearnedSensor,
    LinearSensor,
    Noise as NoiseMessage,
    OwnSensor,
    PositionSensor,
    PseudorangeRateSensor,
    PseudorangeSensor,
    RangeAzimuthElevationSensor,
    RangeBearingSensor,
    RangeChannel,
    RangeRateSensor,
    RangeRelativeBearingSensor,
    RangeSensor,
    Reason,
    RelativeBearingSensor,
    Sensor as SensorMessage,
    SignalStrengthSensor,
    SpeedSensor,
    TimeDifferenceSensor,
    TimeDifferencesSensor,
    UniformClutter,
    Unusable,
)
from beliefstream.schemas.sensors.base import Placed, SensorBase
from beliefstream.schemas.sensors.directions import OrientedInPlane, PlacedInSpace
from beliefstream.schemas.sensors.parsing import KINDS
from beliefstream.streams.definitions import own_code
from beliefstream.streams.definitions.errors import with_errors
from beliefstream.streams.definitions.observations import LocalPosition


def sensor_over(sensor: SensorMessage, names: tuple[str, ...]) -> Sensor:
    """Build the measurement model of a sensor for a state with the coordinates `names`.

    Raises:
        Unusable: `missing_coordinates` if the state lacks a coordinate that the sensor observes. `invalid_definition`
            if the variance of its noise exceeds the floating-point range, its measurement function is unknown or does
            not accept its coordinates and parameters, its problem is unknown or fails, or it is a control sensor.
    """
    missing = [name for name in sensor.coordinate_names if name not in names]
    if missing:
        raise Unusable(
            Reason.missing_coordinates,
            f"sensor: {sensor.sensor} observes {', '.join(missing)}, which the model's state {list(names)} lacks",
        )
    try:
        found = with_errors(_model_of(sensor, _State(names)), sensor)
        if isinstance(sensor, (OrientedInPlane, PlacedInSpace)) and np.any(sensor.orientation):
            found = measurement.placed(found, orientation=sensor.orientation)
        return measurement.without_position(found) if isinstance(sensor, Placed) and sensor.moves else found
    except (ArithmeticError, ValueError) as error:
        raise Unusable(
            Reason.invalid_definition, f"sensor: {sensor.sensor} cannot be used: {error}"
        ) from error


@dataclass(frozen=True)
class _State:
    """The coordinates of a state."""

    names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.names)

    def axes(self, *names: str) -> list[int]:
        return [self.names.index(name) for name in names]


@functools.singledispatch
def _model_of(sensor: SensorBase, state: _State) -> Sensor:
    """The measurement model of a sensor, without its orientation and errors that last: an entry for every kind."""
    raise NotImplementedError(type(sensor).__name__)


@_model_of.register
def _position(sensor: PositionSensor, state: _State) -> Sensor:
    axes = state.axes(*sensor.coordinates)
    return measurement.position(
        axes, state.size, _covariance(sensor), sensor.outlier_probability, **_calibration(sensor)
    )


@_model_of.register
def _linear(sensor: LinearSensor, state: _State) -> Sensor:
    matrix = np.zeros((len(sensor.rows), state.size))
    for row, coefficients in enumerate(sensor.rows):
        for name, coefficient in coefficients.items():
            matrix[row, state.names.index(name)] = coefficient
    return measurement.linear(matrix, _covariance(sensor), sensor.outlier_probability, **_calibration(sensor))


@_model_of.register
def _geodetic(sensor: GeodeticSensor, state: _State) -> Sensor:
    probability = sensor.outlier_probability
    plain = measurement.position(
        state.axes(*sensor.coordinates), state.size, _covariance(sensor), probability
    )
    return LocalPosition(
        plain.kind,
        plain.matrix,
        plain.origin,
        plain.covariance,
        probability,
        geodetic_origin=sensor.origin,
    )


@_model_of.register
def _range(sensor: RangeSensor, state: _State) -> Sensor:
    axes, most = state.axes(*sensor.coordinates), sensor.maximum_range
    return measurement.range_to(axes, state.size, sensor.position, maximum_range=most, **_channel(sensor))


@_model_of.register
def _speed(sensor: SpeedSensor, state: _State) -> Sensor:
    axes, most = state.axes(*sensor.coordinates), sensor.maximum_speed
    return measurement.speed(axes, state.size, maximum_speed=most, **_channel(sensor))


@_model_of.register
def _range_rate(sensor: RangeRateSensor, state: _State) -> Sensor:
    axes, velocities = state.axes(*sensor.coordinates), state.axes(*sensor.velocities)
    place, most = sensor.position, sensor.maximum_speed
    return measurement.range_rate(axes, velocities, state.size, place, maximum_speed=most, **_channel(sensor))


@_model_of.register
def _signal_strength(sensor: SignalStrengthSensor, state: _State) -> Sensor:
    names = ("reference_power", "exponent", "reference_distance", "outlier_span")
    law = {name: getattr(sensor, name) for name in names}
    axes = state.axes(*sensor.coordinates)
    return measurement.signal_strength(axes, state.size, sensor.position, **law, **_channel(sensor))


@_model_of.register
def _time_difference(sensor: TimeDifferenceSensor, state: _State) -> Sensor:
    axes, speed = state.axes(*sensor.coordinates), sensor.propagation_speed
    return measurement.time_difference(
        axes, state.size, sensor.first, sensor.second, propagation_speed=speed, **_channel(sensor)
    )


@_model_of.register
def _bearing(sensor: BearingSensor, state: _State) -> Sensor:
    axes = state.axes(*sensor.coordinates)
    return measurement.bearing(axes, state.size, sensor.position, **_channel(sensor))


@_model_of.register
def _relative_bearing(sensor: RelativeBearingSensor, state: _State) -> Sensor:
    axes, (heading,) = state.axes(*sensor.coordinates), state.axes(sensor.heading)
    return measurement.relative_bearing(axes, heading, state.size, sensor.position, **_channel(sensor))


@_model_of.register
def _heading(sensor: HeadingSensor, state: _State) -> Sensor:
    (axis,) = state.axes(*sensor.coordinates)
    return measurement.heading(axis, state.size, **_channel(sensor))


@_model_of.register
def _course(sensor: CourseSensor, state: _State) -> Sensor:
    return measurement.course(state.axes(*sensor.coordinates), state.size, **_channel(sensor))


@_model_of.register
def _learned(sensor: LearnedSensor, state: _State) -> Sensor:
    return measurement.of_problem(
        own_code.find(sensor.problem),
        {name: state.names.index(coordinate) for name, coordinate in sensor.parameters.items()},
        state.size,
        sensor.value,
        sensor.context,
        own_code.learned(sensor.problem, sensor.weights, sensor.sha256),
    )


@_model_of.register
def _control(sensor: ControlSensor, state: _State) -> Sensor:
    raise ValueError("a control sensor reports inputs of the motion, not the state")


_Composite = (
    AzimuthElevationSensor | RangeBearingSensor | RangeRelativeBearingSensor | RangeAzimuthElevationSensor
)


@_model_of.register
def _composite(sensor: _Composite, state: _State) -> Sensor:
    return measurement.composite([_part(sensor, name, state) for name in sensor.parts])


def _part(sensor: _Composite, name: str, state: _State) -> Sensor:
    """One of the numbers that the sensor reports, by the name of its field."""
    axes, size, place, part = state.axes(*sensor.coordinates), state.size, sensor.position, sensor.parts[name]
    channel = _channel(part)
    if isinstance(sensor, RangeRelativeBearingSensor):
        heading = state.names.index(sensor.heading)
        if not isinstance(part, RangeChannel):
            return measurement.relative_bearing(axes, heading, size, place, **channel)
        if sensor.depth:
            most = part.maximum_range
            return measurement.depth(axes, heading, size, place, maximum_range=most, **channel)
    if isinstance(part, RangeChannel):
        return measurement.range_to(axes, size, place, maximum_range=part.maximum_range, **channel)
    angle: dict[str, Callable[..., Sensor]] = {
        "bearing": measurement.bearing,
        "azimuth": measurement.azimuth,
        "elevation": measurement.elevation,
    }
    return angle[name](axes, size, place, **channel)


@_model_of.register
def _time_differences(sensor: TimeDifferencesSensor, state: _State) -> Sensor:
    deviations = sensor.standard_deviation
    covariance = (
        np.array(sensor.covariance)
        if deviations is None
        else measurement.shared_reference(np.broadcast_to(deviations, len(sensor.receivers)))
    )
    axes, speed = state.axes(*sensor.coordinates), sensor.propagation_speed
    return measurement.time_differences(axes, state.size, sensor.receivers, covariance, speed)


@_model_of.register
def _satellites(sensor: PseudorangeSensor | PseudorangeRateSensor, state: _State) -> Sensor:
    place = (sensor.origin.latitude, sensor.origin.longitude)
    # of unit vectors east, north and up
    axes = np.array([pymap3d.enu2uvw(*unit, *place) for unit in np.eye(3)])
    frame = measurement.LocalFrame(np.array(pymap3d.geodetic2ecef(*place, sensor.origin.altitude)), axes)
    growth = measurement.SatelliteNoise(sensor.elevation_deviation, sensor.signal_deviation)
    places, channel = state.axes(*sensor.coordinates), _channel(sensor)
    if isinstance(sensor, PseudorangeSensor):
        return measurement.pseudorange(
            places,
            state.names.index(sensor.clock),
            state.size,
            frame,
            outlier_span=sensor.outlier_span,
            growth=growth,
            maximum_clock=sensor.maximum_clock,
            **channel,
        )
    return measurement.pseudorange_rate(
        places,
        state.axes(*sensor.velocities),
        state.names.index(sensor.drift),
        state.size,
        frame,
        outlier_span=sensor.outlier_span,
        growth=growth,
        **channel,
    )


@_model_of.register
def _own(sensor: OwnSensor, state: _State) -> Sensor:
    parts = [
        measurement.function(
            sensor.measurement,
            state.axes(*sensor.coordinates),
            state.size,
            parameters=sensor.parameters,
            outlier_span=sensor.outlier_span,
            origin=sensor.position,
            output=output,
            outputs=sensor.outputs,
            **_channel(sensor),
        )
        for output in ([None] if sensor.outputs is None else range(sensor.outputs))
    ]
    return parts[0] if sensor.outputs is None else measurement.composite(parts)


class _ChannelArguments(TypedDict):
    standard_deviation: float
    outlier_probability: float
    scale: float
    bias: float
    noise: Noise | None


def _channel(channel: Channel) -> _ChannelArguments:
    return {
        "standard_deviation": channel.standard_deviation,
        "outlier_probability": channel.outlier_probability,
        "scale": channel.scale,
        "bias": channel.bias,
        "noise": noise_of(channel.noise),
    }


def _calibration(sensor: PositionSensor | LinearSensor) -> measurement.Calibration:
    return {"scale": sensor.scale, "bias": sensor.bias, "noise": noise_of(sensor.noise)}


def noise_of(noise: NoiseMessage | None) -> Noise | None:
    """Convert the noise model of a scalar sensor; the standard deviation is not part of it."""
    if noise is None:
        return None
    parts: dict[str, Any] = {}
    if noise.components:
        parts = {
            "weights": tuple(each.weight for each in noise.components),
            "biases": tuple(each.bias for each in noise.components),
            "ratios": tuple(each.ratio for each in noise.components),
        }
    clutter = tuple(
        (
            law.probability,
            Uniform(law.low, law.high) if isinstance(law, UniformClutter) else Exponential(law.mean),
        )
        for law in noise.clutter
    )
    return Noise(slope=noise.slope, clutter=clutter, **parts)


def _covariance(sensor: PositionSensor | LinearSensor | GeodeticSensor) -> Array:
    if sensor.covariance is not None:
        return np.array(sensor.covariance)
    assert sensor.standard_deviation is not None
    return np.eye(sensor.value_length) * sensor.standard_deviation**2


for _kind in KINDS:
    if _model_of.dispatch(_kind) is _model_of.dispatch(SensorBase):
        raise NotImplementedError(f"{_kind.__name__} needs an entry of `_model_of` in {__name__}")
