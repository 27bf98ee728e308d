"""The registry of kinds: every kind of sensor and of motion has one entry here, its class in a union.

The rest follows from it. The field `kind` selects one of a union, so that these are what the topics `sensors` and
`models` accept. `beliefstream.schemas` has all names of this file. `make contract` writes them into the stub and the
reference of `beliefstream`, the contract of the topics and the page of all fields. `streams.definitions` converts each
kind for inference. CONTRIBUTING.md shows how to add one.
"""

from beliefstream.schemas.motions import (
    ConstantAcceleration as ConstantAcceleration,
    ConstantVelocity as ConstantVelocity,
    CoordinatedTurn as CoordinatedTurn,
    DecayingVelocity as DecayingVelocity,
    LinearMotion as LinearMotion,
    MeanReverting as MeanReverting,
    RandomWalk as RandomWalk,
    Unicycle as Unicycle,
)
from beliefstream.schemas.sensors.control import ControlSensor as ControlSensor
from beliefstream.schemas.sensors.coordinates import (
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

AnySensor = (
    PositionSensor
    | LinearSensor
    | GeodeticSensor
    | RangeSensor
    | SpeedSensor
    | RangeRateSensor
    | SignalStrengthSensor
    | TimeDifferenceSensor
    | TimeDifferencesSensor
    | PseudorangeSensor
    | PseudorangeRateSensor
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
AnyMotion = (
    RandomWalk
    | ConstantVelocity
    | DecayingVelocity
    | ConstantAcceleration
    | MeanReverting
    | LinearMotion
    | Unicycle
    | CoordinatedTurn
)
