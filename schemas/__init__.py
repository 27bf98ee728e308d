"""What travels on the topics of Beliefstream."""

from __future__ import annotations

from schemas import cloudevents
from schemas.base import Message, Name, Unusable, explain
from schemas.dead_letter import DeadLetter
from schemas.decoding import parse
from schemas.mixture import Mixture
from schemas.model import ConstantVelocity, Coordinate, Model, Motion, RandomWalk
from schemas.observation import Observation
from schemas.posterior import Posterior, Quality
from schemas.prior import Prior
from schemas.reasons import Reason, reason_of
from schemas.sensor import (
    BearingSensor,
    LinearSensor,
    PositionSensor,
    RangeSensor,
    Sensor,
    parse_sensor,
)
from schemas.time import Time, from_rfc3339, to_rfc3339

__all__ = [
    "BearingSensor",
    "ConstantVelocity",
    "Coordinate",
    "DeadLetter",
    "LinearSensor",
    "Message",
    "Mixture",
    "Model",
    "Motion",
    "Name",
    "Observation",
    "PositionSensor",
    "Posterior",
    "Prior",
    "Quality",
    "RandomWalk",
    "RangeSensor",
    "Reason",
    "Sensor",
    "Time",
    "Unusable",
    "cloudevents",
    "explain",
    "from_rfc3339",
    "parse",
    "parse_sensor",
    "reason_of",
    "to_rfc3339",
]
