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
    )
    from beliefstream.schemas import (
        BearingSensor as BearingSensor,
    )
    from beliefstream.schemas import (
        Channel as Channel,
    )
    from beliefstream.schemas import (
        ConstantAcceleration as ConstantAcceleration,
    )
    from beliefstream.schemas import (
        ConstantVelocity as ConstantVelocity,
    )
    from beliefstream.schemas import (
        ControlSensor as ControlSensor,
    )
    from beliefstream.schemas import (
        Coordinate as Coordinate,
    )
    from beliefstream.schemas import (
        CoordinatedTurn as CoordinatedTurn,
    )
    from beliefstream.schemas import (
        CourseSensor as CourseSensor,
    )
    from beliefstream.schemas import (
        DeadLetter as DeadLetter,
    )
    from beliefstream.schemas import (
        DecayingVelocity as DecayingVelocity,
    )
    from beliefstream.schemas import (
        ExponentialClutter as ExponentialClutter,
    )
    from beliefstream.schemas import (
        Geodetic as Geodetic,
    )
    from beliefstream.schemas import (
        GeodeticSensor as GeodeticSensor,
    )
    from beliefstream.schemas import (
        HeadingSensor as HeadingSensor,
    )
    from beliefstream.schemas import (
        LinearMotion as LinearMotion,
    )
    from beliefstream.schemas import (
        LinearSensor as LinearSensor,
    )
    from beliefstream.schemas import (
        LogPosition as LogPosition,
    )
    from beliefstream.schemas import (
        MeanReverting as MeanReverting,
    )
    from beliefstream.schemas import (
        Message as Message,
    )
    from beliefstream.schemas import (
        Mixture as Mixture,
    )
    from beliefstream.schemas import (
        Model as Model,
    )
    from beliefstream.schemas import (
        Motion as Motion,
    )
    from beliefstream.schemas import (
        Name as Name,
    )
    from beliefstream.schemas import (
        Noise as Noise,
    )
    from beliefstream.schemas import (
        NoiseComponent as NoiseComponent,
    )
    from beliefstream.schemas import (
        Observation as Observation,
    )
    from beliefstream.schemas import (
        OwnSensor as OwnSensor,
    )
    from beliefstream.schemas import (
        PositionSensor as PositionSensor,
    )
    from beliefstream.schemas import (
        Posterior as Posterior,
    )
    from beliefstream.schemas import (
        Prior as Prior,
    )
    from beliefstream.schemas import (
        Quality as Quality,
    )
    from beliefstream.schemas import (
        RandomWalk as RandomWalk,
    )
    from beliefstream.schemas import (
        RangeAzimuthElevationSensor as RangeAzimuthElevationSensor,
    )
    from beliefstream.schemas import (
        RangeBearingSensor as RangeBearingSensor,
    )
    from beliefstream.schemas import (
        RangeChannel as RangeChannel,
    )
    from beliefstream.schemas import (
        RangeRateSensor as RangeRateSensor,
    )
    from beliefstream.schemas import (
        RangeRelativeBearingSensor as RangeRelativeBearingSensor,
    )
    from beliefstream.schemas import (
        RangeSensor as RangeSensor,
    )
    from beliefstream.schemas import (
        Reason as Reason,
    )
    from beliefstream.schemas import (
        RelativeBearingSensor as RelativeBearingSensor,
    )
    from beliefstream.schemas import (
        Replay as Replay,
    )
    from beliefstream.schemas import (
        Reset as Reset,
    )
    from beliefstream.schemas import (
        Sensor as Sensor,
    )
    from beliefstream.schemas import (
        SignalStrengthSensor as SignalStrengthSensor,
    )
    from beliefstream.schemas import (
        SpeedSensor as SpeedSensor,
    )
    from beliefstream.schemas import (
        Time as Time,
    )
    from beliefstream.schemas import (
        TimeDifferenceSensor as TimeDifferenceSensor,
    )
    from beliefstream.schemas import (
        Unicycle as Unicycle,
    )
    from beliefstream.schemas import (
        UniformClutter as UniformClutter,
    )
    from beliefstream.schemas import (
        Unusable as Unusable,
    )
    from beliefstream.schemas import (
        explain as explain,
    )
    from beliefstream.schemas import (
        from_rfc3339 as from_rfc3339,
    )
    from beliefstream.schemas import (
        is_name as is_name,
    )
    from beliefstream.schemas import (
        parse as parse,
    )
    from beliefstream.schemas import (
        parse_sensor as parse_sensor,
    )
    from beliefstream.schemas import (
        parse_stated as parse_stated,
    )
    from beliefstream.schemas import (
        printable as printable,
    )
    from beliefstream.schemas import (
        reason_of as reason_of,
    )
    from beliefstream.schemas import (
        to_rfc3339 as to_rfc3339,
    )
    from beliefstream.streams.client import (
        BrokerUnavailable as BrokerUnavailable,
    )
    from beliefstream.streams.client import (
        DeadLetterConsumer as DeadLetterConsumer,
    )
    from beliefstream.streams.client import (
        DefinitionConflict as DefinitionConflict,
    )
    from beliefstream.streams.client import (
        ObservationProducer as ObservationProducer,
    )
    from beliefstream.streams.client import (
        Place as Place,
    )
    from beliefstream.streams.client import (
        PosteriorConsumer as PosteriorConsumer,
    )
    from beliefstream.streams.client import (
        PriorPublisher as PriorPublisher,
    )
    from beliefstream.streams.client import (
        ReceivedDeadLetter as ReceivedDeadLetter,
    )
    from beliefstream.streams.client import (
        Registry as Registry,
    )
    from beliefstream.streams.client import (
        Replayed as Replayed,
    )
    from beliefstream.streams.client import (
        Replayer as Replayer,
    )
    from beliefstream.streams.client import (
        Selection as Selection,
    )
    from beliefstream.streams.client import (
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
