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
from beliefstream.schemas.kinds import *  # noqa: F403  (all kinds, by their names)
from beliefstream.schemas.model import Coordinate as Coordinate, Model as Model, Motion as Motion
from beliefstream.schemas.observation import Observation as Observation
from beliefstream.schemas.sensor_health import (
    ChannelHealth as ChannelHealth,
    HealthBlock as HealthBlock,
    SensorHealth as SensorHealth,
)
from beliefstream.schemas.sensors.base import (
    Channel as Channel,
    ExponentialClutter as ExponentialClutter,
    Noise as Noise,
    NoiseComponent as NoiseComponent,
    UniformClutter as UniformClutter,
)
from beliefstream.schemas.sensors.coordinates import Geodetic as Geodetic
from beliefstream.schemas.sensors.distances import RangeChannel as RangeChannel
from beliefstream.schemas.sensors.parsing import Sensor as Sensor, parse_sensor as parse_sensor
from beliefstream.schemas.time import Time as Time, from_rfc3339 as from_rfc3339, to_rfc3339 as to_rfc3339
