"""Beliefstream: streaming sensor fusion over Kafka.

Everything that a device, a consumer of posteriors or a definition needs is here and works in the base install:
messages, definitions of sensors and models, and clients. `fuse`, which needs no Kafka, needs `beliefstream[worker]`.
Names are imported when they are first used, so that `import beliefstream` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beliefstream.inference.likelihood.measurement_functions import register as register
    from beliefstream.schemas import (
        AzimuthElevationSensor as AzimuthElevationSensor,
        BearingSensor as BearingSensor,
        Channel as Channel,
        ConstantAcceleration as ConstantAcceleration,
        ConstantVelocity as ConstantVelocity,
        ControlSensor as ControlSensor,
        Coordinate as Coordinate,
        CoordinatedTurn as CoordinatedTurn,
        CourseSensor as CourseSensor,
        DeadLetter as DeadLetter,
        DecayingVelocity as DecayingVelocity,
        ExponentialClutter as ExponentialClutter,
        Geodetic as Geodetic,
        GeodeticSensor as GeodeticSensor,
        HeadingSensor as HeadingSensor,
        LearnedSensor as LearnedSensor,
        LinearMotion as LinearMotion,
        LinearSensor as LinearSensor,
        LogPosition as LogPosition,
        MeanReverting as MeanReverting,
        Message as Message,
        Mixture as Mixture,
        Model as Model,
        Motion as Motion,
        Name as Name,
        Noise as Noise,
        NoiseComponent as NoiseComponent,
        Observation as Observation,
        OwnSensor as OwnSensor,
        PositionSensor as PositionSensor,
        Posterior as Posterior,
        Prior as Prior,
        Quality as Quality,
        RandomWalk as RandomWalk,
        RangeAzimuthElevationSensor as RangeAzimuthElevationSensor,
        RangeBearingSensor as RangeBearingSensor,
        RangeChannel as RangeChannel,
        RangeRateSensor as RangeRateSensor,
        RangeRelativeBearingSensor as RangeRelativeBearingSensor,
        RangeSensor as RangeSensor,
        Reason as Reason,
        RelativeBearingSensor as RelativeBearingSensor,
        Replay as Replay,
        Reset as Reset,
        Sensor as Sensor,
        SignalStrengthSensor as SignalStrengthSensor,
        SpeedSensor as SpeedSensor,
        Time as Time,
        TimeDifferenceSensor as TimeDifferenceSensor,
        TimeDifferencesSensor as TimeDifferencesSensor,
        Unicycle as Unicycle,
        UniformClutter as UniformClutter,
        Unusable as Unusable,
        explain as explain,
        from_rfc3339 as from_rfc3339,
        is_name as is_name,
        parse as parse,
        parse_sensor as parse_sensor,
        parse_stated as parse_stated,
        printable as printable,
        reason_of as reason_of,
        to_rfc3339 as to_rfc3339,
    )
    from beliefstream.streams.client import (
        BrokerUnavailable as BrokerUnavailable,
        DeadLetterConsumer as DeadLetterConsumer,
        DefinitionConflict as DefinitionConflict,
        ObservationProducer as ObservationProducer,
        Place as Place,
        PosteriorConsumer as PosteriorConsumer,
        PriorPublisher as PriorPublisher,
        ReceivedDeadLetter as ReceivedDeadLetter,
        Registry as Registry,
        Replayed as Replayed,
        Replayer as Replayer,
        Selection as Selection,
        TopicMissing as TopicMissing,
    )
    from beliefstream.streams.local.python_fusion import fuse as fuse

_SCHEMAS = (
    "AzimuthElevationSensor",
    "BearingSensor",
    "Channel",
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
    "SignalStrengthSensor",
    "SpeedSensor",
    "Time",
    "TimeDifferenceSensor",
    "TimeDifferencesSensor",
    "Unicycle",
    "UniformClutter",
    "Unusable",
    "explain",
    "from_rfc3339",
    "is_name",
    "parse",
    "parse_sensor",
    "parse_stated",
    "printable",
    "reason_of",
    "to_rfc3339",
)
_CLIENTS = (
    "BrokerUnavailable",
    "DeadLetterConsumer",
    "DefinitionConflict",
    "ObservationProducer",
    "Place",
    "PosteriorConsumer",
    "PriorPublisher",
    "ReceivedDeadLetter",
    "Registry",
    "Replayed",
    "Replayer",
    "Selection",
    "TopicMissing",
)
_MODULES = {
    **dict.fromkeys(_SCHEMAS, "beliefstream.schemas"),
    **dict.fromkeys(_CLIENTS, "beliefstream.streams.client"),
    "fuse": "beliefstream.streams.local.python_fusion",
    "register": "beliefstream.inference.likelihood.measurement_functions",
}
"""Where each name is defined."""

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
