"""How a state moves between observations, and under a reported control.

`Motion.predict` carries a mixture over any interval: exactly where the motion is linear, with the exact mean and
covariance of every component where it turns. `Motion.sample` does the same to particles.
"""

from inference.motion.decaying import DecayingVelocity
from inference.motion.kinematic import ConstantAcceleration, ConstantVelocity, MeanReverting, RandomWalk
from inference.motion.linear import LinearMotion, transition
from inference.motion.protocol import Control, Motion
from inference.motion.system import FixedStep, Linear
from inference.motion.vehicles import CoordinatedTurn, Unicycle

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
    "transition",
]
