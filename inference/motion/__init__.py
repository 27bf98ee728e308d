"""Motion models: how a state moves between observations, with or without a reported control.

`Motion.predict` moves a mixture over any interval. It is exact for linear motions; for turning ones the mean and the
covariance of every component are exact. `Motion.sample` moves particles.
"""

from beliefstream.inference.motion.decaying import DecayingVelocity
from beliefstream.inference.motion.kinematic import (
    ConstantAcceleration,
    ConstantVelocity,
    MeanReverting,
    RandomWalk,
)
from beliefstream.inference.motion.linear import LinearMotion
from beliefstream.inference.motion.protocol import Control, Motion
from beliefstream.inference.motion.system import FixedStep, Linear
from beliefstream.inference.motion.vehicles import CoordinatedTurn, Unicycle

__all__ = [
    "ConstantAcceleration",
    "ConstantVelocity",
    "Control",
    "CoordinatedTurn",
    "DecayingVelocity",
    "FixedStep",
    "Linear",
    "LinearMotion",
    "MeanReverting",
    "Motion",
    "RandomWalk",
    "Unicycle",
]
