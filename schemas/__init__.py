"""The messages on the topics of Beliefstream."""

from __future__ import annotations

from beliefstream.schemas import cloudevents as cloudevents
from beliefstream.schemas.base import (
    Message as Message,
    Name as Name,
    Reason as Reason,
    Unusable as Unusable,
    explain as explain,
    is_name as is_name,
    parse as parse,
    printable as printable,
    reason_of as reason_of,
)
from beliefstream.schemas.beliefs.mixture import Mixture as Mixture
from beliefstream.schemas.beliefs.posterior import (
    Posterior as Posterior,
    Quality as Quality,
    SensorError as SensorError,
)
from beliefstream.schemas.beliefs.prior import (
    LogPosition as LogPosition,
    Prior as Prior,
    Reset as Reset,
    parse_stated as parse_stated,
)
from beliefstream.schemas.dead_letter import DeadLetter as DeadLetter, Replay as Replay
from beliefstream.schemas.model import Coordinate as Coordinate, Model as Model
from beliefstream.schemas.motions import (
    ConstantAcceleration as ConstantAcceleration,
    ConstantVelocity as ConstantVelocity,
    CoordinatedTurn as CoordinatedTurn,
    DecayingVelocity as DecayingVelocity,
    LinearMotion as LinearMotion,
    MeanReverting as MeanReverting,
    Motion as Motion,
    RandomWalk as RandomWalk,
    Unicycle as Unicycle,
)
from beliefstream.schemas.observation import Observation as Observation
from beliefstream.schemas.sensor_health import (
    ChannelHealth as ChannelHealth,
    HealthBlock as HealthBlock,
    SensorHealth as SensorHealth,
)
from beliefstream.schemas.sensors import Sensor as Sensor, parse_sensor as parse_sensor
from beliefstream.schemas.sensors.base import (
    Channel as Channel,
    ExponentialClutter as ExponentialClutter,
    Noise as Noise,
    NoiseComponent as NoiseComponent,
    UniformClutter as UniformClutter,
)
from beliefstream.schemas.sensors.control import ControlSensor as ControlSensor
from beliefstream.schemas.sensors.coordinates import (
    Geodetic as Geodetic,
    GeodeticSensor as GeodeticSensor,
    LinearSensor as LinearSensor,
    PositionSensor as PositionSensor,
)
from beliefstream.schemas.sensors.directions import (
    AzimuthElevationSensor as AzimuthElevationSensor,
    BearingSensor as BearingSensor,
    CourseSensor as CourseSensor,
    HeadingSensor as HeadingSensor,
    RangeAzimuthElevationSensor as RangeAzimuthElevationSensor,
    RangeBearingSensor as RangeBearingSensor,
    RangeRelativeBearingSensor as RangeRelativeBearingSensor,
    RelativeBearingSensor as RelativeBearingSensor,
)
from beliefstream.schemas.sensors.distances import (
    RangeChannel as RangeChannel,
    RangeRateSensor as RangeRateSensor,
    RangeSensor as RangeSensor,
    SignalStrengthSensor as SignalStrengthSensor,
    SpeedSensor as SpeedSensor,
    TimeDifferenceSensor as TimeDifferenceSensor,
    TimeDifferencesSensor as TimeDifferencesSensor,
)
from beliefstream.schemas.sensors.own import LearnedSensor as LearnedSensor, OwnSensor as OwnSensor
from beliefstream.schemas.sensors.satellites import (
    PseudorangeRateSensor as PseudorangeRateSensor,
    PseudorangeSensor as PseudorangeSensor,
)
from beliefstream.schemas.time import Time as Time, from_rfc3339 as from_rfc3339, to_rfc3339 as to_rfc3339
