"""Motions: how a state moves between observations; the field `kind` selects the motion."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from beliefstream.schemas.motions.base import MotionBase
from beliefstream.schemas.motions.kinematic import (
    ConstantAcceleration,
    ConstantVelocity,
    DecayingVelocity,
    MeanReverting,
    RandomWalk,
)
from beliefstream.schemas.motions.system import LinearMotion
from beliefstream.schemas.motions.turning import CoordinatedTurn, Unicycle

__all__ = [
    "AnyMotion",
    "ConstantAcceleration",
    "ConstantVelocity",
    "CoordinatedTurn",
    "DecayingVelocity",
    "LinearMotion",
    "MeanReverting",
    "Motion",
    "MotionBase",
    "RandomWalk",
    "Unicycle",
]

AnyMotion: TypeAlias = (
    RandomWalk
    | ConstantVelocity
    | DecayingVelocity
    | ConstantAcceleration
    | MeanReverting
    | LinearMotion
    | Unicycle
    | CoordinatedTurn
)
Motion: TypeAlias = Annotated[AnyMotion, Field(discriminator="kind")]
