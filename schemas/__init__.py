"""The messages on the topics of Beliefstream."""

from __future__ import annotations

from beliefstream.schemas import cloudevents
from beliefstream.schemas.base import Message, Name, Unusable, explain, is_name, printable
from beliefstream.schemas.dead_letter import DeadLetter
from beliefstream.schemas.decoding import parse
from beliefstream.schemas.mixture import Mixture
from beliefstream.schemas.model import Coordinate, Model
from beliefstream.schemas.motions import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    DecayingVelocity,
    LinearMotion,
    MeanReverting,
    Motion,
    RandomWalk,
    Unicycle,
)
from beliefstream.schemas.observation import Observation
from beliefstream.schemas.posterior import Posterior, Quality
from beliefstream.schemas.prior import Prior
from beliefstream.schemas.reasons import Reason, reason_of
from beliefstream.schemas.replay import Replay
from beliefstream.schemas.reset import LogPosition, Reset, parse_stated
from beliefstream.schemas.sensor import (
    AzimuthElevationSensor,
    BearingSensor,
    Channel,
    ControlSensor,
    CourseSensor,
    ExponentialClutter,
    Geodetic,
    GeodeticSensor,
    HeadingSensor,
    LearnedSensor,
    LinearSensor,
    Noise,
    NoiseComponent,
    OwnSensor,
    PositionSensor,
    RangeAzimuthElevationSensor,
    RangeBearingSensor,
    RangeChannel,
    RangeRateSensor,
    RangeRelativeBearingSensor,
    RangeSensor,
    RelativeBearingSensor,
    Sensor,
    SignalStrengthSensor,
    SpeedSensor,
    TimeDifferenceSensor,
    TimeDifferencesSensor,
    UniformClutter,
    parse_sensor,
)
from beliefstream.schemas.sensor_health import ChannelHealth, HealthBlock, SensorHealth
from beliefstream.schemas.time import Time, from_rfc3339, to_rfc3339

__all__ = [
    "AzimuthElevationSensor",
    "BearingSensor",
    "Channel",
    "ChannelHealth",
    "ConstantAcceleration",
    "ConstantVelocity",
    "ControlSensor",
    "Coordinate",
    "CoordinatedTurn",
    "CourseSensor",
    "DeadLetter",
    "DecayingVelocity",
    "ExponentialClutter",
    "Geodetic",
    "GeodeticSensor",
    "HeadingSensor",
    "HealthBlock",
    "LearnedSensor",
    "LinearMotion",
    "LinearSensor",
    "LogPosition",
    "MeanReverting",
    "Message",
    "Mixture",
    "Model",
    "Motion",
    "Name",
    "Noise",
    "NoiseComponent",
    "Observation",
    "OwnSensor",
    "PositionSensor",
    "Posterior",
    "Prior",
    "Quality",
    "RandomWalk",
    "RangeAzimuthElevationSensor",
    "RangeBearingSensor",
    "RangeChannel",
    "RangeRateSensor",
    "RangeRelativeBearingSensor",
    "RangeSensor",
    "Reason",
    "RelativeBearingSensor",
    "Replay",
    "Reset",
    "Sensor",
    "SensorHealth",
    "SignalStrengthSensor",
    "SpeedSensor",
    "Time",
    "TimeDifferenceSensor",
    "TimeDifferencesSensor",
    "Unicycle",
    "UniformClutter",
    "Unusable",
    "cloudevents",
    "explain",
    "from_rfc3339",
    "is_name",
    "parse",
    "parse_sensor",
    "parse_stated",
    "printable",
    "reason_of",
    "to_rfc3339",
]
