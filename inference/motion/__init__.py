"""Motion models: how a state moves between observations, with or without a reported control.

`Motion.predict` moves a mixture over any interval. It is exact for linear motions; for turning ones the mean and the
covariance of every component are exact. `Motion.sample` moves particles.
"""

from beliefstream.inference.motion.decaying import DecayingVelocity as DecayingVelocity
from beliefstream.inference.motion.kinematic import (
    ConstantAcceleration as ConstantAcceleration,
    ConstantVelocity as ConstantVelocity,
    MeanReverting as MeanReverting,
    RandomWalk as RandomWalk,
)
from beliefstream.inference.motion.linear import LinearMotion as LinearMotion
from beliefstream.inference.motion.protocol import Control as Control, Motion as Motion
from beliefstream.inference.motion.system import FixedStep as FixedStep, Linear as Linear
from beliefstream.inference.motion.vehicles import CoordinatedTurn as CoordinatedTurn, Unicycle as Unicycle
