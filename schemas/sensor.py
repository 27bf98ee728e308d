"""Sensor definition of any kind: its measurement, noise, outliers and calibration.

The kinds are in `schemas.sensors`; the field `kind` of a definition selects one.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, get_args

from pydantic import Field, TypeAdapter, ValidationError

from beliefstream.schemas.base import Unusable as Unusable, check_parts, unusable
from beliefstream.schemas.sensors.angles import (
    BearingSensor,
    CourseSensor,
    HeadingSensor,
    RelativeBearingSensor,
)
from beliefstream.schemas.sensors.base import Channel, Coordinates, SensorBase
from beliefstream.schemas.sensors.composites import (
    AzimuthElevationSensor,
    RangeAzimuthElevationSensor,
    RangeBearingSensor,
    RangeRelativeBearingSensor,
)
from beliefstream.schemas.sensors.control import ControlSensor
from beliefstream.schemas.sensors.coordinates import Geodetic, GeodeticSensor, LinearSensor, PositionSensor
from beliefstream.schemas.sensors.distances import (
    RangeChannel,
    RangeRateSensor,
    RangeSensor,
    SignalStrengthSensor,
    SpeedSensor,
    TimeDifferenceSensor,
    TimeDifferencesSensor,
)
from beliefstream.schemas.sensors.learned import LearnedSensor
from beliefstream.schemas.sensors.noise import ExponentialClutter, Noise, NoiseComponent, UniformClutter
from beliefstream.schemas.sensors.own import OwnSensor

__all__ = [
    "KINDS",
    "AnySensor",
    "AzimuthElevationSensor",
    "BearingSensor",
    "Channel",
    "ControlSensor",
    "Coordinates",
    "CourseSensor",
    "ExponentialClutter",
    "Geodetic",
    "GeodeticSensor",
    "HeadingSensor",
    "LearnedSensor",
    "LinearSensor",
    "Noise",
    "NoiseComponent",
    "OwnSensor",
    "PositionSensor",
    "RangeAzimuthElevationSensor",
    "RangeBearingSensor",
    "RangeChannel",
    "RangeRateSensor",
    "RangeRelativeBearingSensor",
    "RangeSensor",
    "RelativeBearingSensor",
    "Sensor",
    "SignalStrengthSensor",
    "SpeedSensor",
    "TimeDifferenceSensor",
    "TimeDifferencesSensor",
    "UniformClutter",
    "Unusable",
    "parse_sensor",
    "sensor_adapter",
]

AnySensor: TypeAlias = (
    PositionSensor
    | LinearSensor
    | GeodeticSensor
    | RangeSensor
    | SpeedSensor
    | RangeRateSensor
    | SignalStrengthSensor
    | TimeDifferenceSensor
    | TimeDifferencesSensor
    | BearingSensor
    | RelativeBearingSensor
    | HeadingSensor
    | CourseSensor
    | AzimuthElevationSensor
    | RangeBearingSensor
    | RangeRelativeBearingSensor
    | RangeAzimuthElevationSensor
    | OwnSensor
    | LearnedSensor
    | ControlSensor
)
Sensor: TypeAlias = Annotated[AnySensor, Field(discriminator="kind")]
KINDS: tuple[type[SensorBase], ...] = get_args(AnySensor)
sensor_adapter: TypeAdapter[AnySensor] = TypeAdapter(Sensor)


def parse_sensor(definition: bytes | dict[str, Any] | None) -> Sensor:
    """Parse a sensor from JSON, or from the parsed JSON object.

    Raises:
        Unusable: with reason `invalid_definition`, `not_json`, `not_finite` or `too_large`.
    """
    try:
        if isinstance(definition, dict):
            return sensor_adapter.validate_python(definition)
        check_parts(definition or b"", SensorBase.most_parts)
        return sensor_adapter.validate_json(definition or b"")
    except ValidationError as error:
        raise unusable(error, defines=True) from error
