"""Converts model definitions to the state models of inference."""

from __future__ import annotations

import math
from typing import assert_never

import numpy as np
from torch import Tensor

from beliefstream.inference import motion as moving
from beliefstream.inference.tracking.events import Belief, StateModel
from beliefstream.schemas import Mixture, Model, Reason, Unusable
from beliefstream.schemas.motions import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    DecayingVelocity,
    LinearMotion,
    MeanReverting,
    Motion,
    RandomWalk,
    Unicycle,
)


class _NearestStep(moving.FixedStep):
    """A fixed-step motion that rounds an interval to whole steps, as for a belief stored under another model."""

    def _power(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        return super()._power((interval.double() / self.step).round() * self.step)


def belief_from_mixture(mixture: Mixture, time: float) -> Belief:
    """Convert a mixture message to a belief."""
    return Belief(
        time, np.array(mixture.weights), np.array(mixture.means), np.array(mixture.covariances, dtype=float)
    )


def state_model(model: Model) -> StateModel:
    """Build the state model of a model definition.

    Raises:
        Unusable: `invalid_definition` if its numbers exceed the floating-point range.
    """
    try:
        motion = motion_over(model.motion, model.coordinate_names)
    except (ArithmeticError, ValueError) as error:
        raise Unusable(Reason.invalid_definition, f"motion: {error}") from error
    expires_after = math.inf if model.expires_after is None else model.expires_after
    return StateModel(motion, belief_from_mixture(model.prior, 0.0), model.components, expires_after)


def motion_over(motion: Motion, names: tuple[str, ...]) -> moving.Motion:
    """Build the motion for a state with the coordinates `names`, which must be those that the motion moves."""
    match motion:
        case RandomWalk():
            return moving.RandomWalk(_each(motion.spectral_density, names))
        case MeanReverting():
            numbers = (motion.rate, motion.mean, motion.spectral_density)
            return moving.MeanReverting(*(_each(number, names) for number in numbers))
        case ConstantVelocity():
            return moving.ConstantVelocity(
                _axes(motion.positions, names),
                _axes(motion.velocities, names),
                motion.spectral_density,
                controlled=bool(motion.inputs),
            )
        case DecayingVelocity():
            return moving.DecayingVelocity(
                _axes(motion.positions, names),
                _axes(motion.velocities, names),
                motion.time_constant,
                motion.spectral_density,
            )
        case ConstantAcceleration():
            return moving.ConstantAcceleration(
                _axes(motion.positions, names),
                _axes(motion.velocities, names),
                _axes(motion.accelerations, names),
                motion.spectral_density,
            )
        case LinearMotion():
            return _linear(motion)
        case Unicycle() | CoordinatedTurn():
            return _turning(motion, names)
        case _:
            assert_never(motion)


def _linear(motion: LinearMotion) -> moving.Motion:
    if motion.drift is not None and motion.diffusion is not None:
        return moving.Linear(motion.drift, motion.diffusion, motion.input_matrix)
    assert motion.transition is not None and motion.noise is not None and motion.step is not None
    return _NearestStep(motion.transition, motion.noise, motion.step, motion.input_matrix)


def _turning(motion: Unicycle | CoordinatedTurn, names: tuple[str, ...]) -> moving.Motion:
    turn_rate = None if motion.turn_rate is None else names.index(motion.turn_rate)
    first, second = _axes(motion.positions, names)
    if isinstance(motion, Unicycle):
        return moving.Unicycle(
            position=(first, second),
            heading=names.index(motion.heading),
            speed=None if motion.speed is None else names.index(motion.speed),
            turn_rate=turn_rate,
            position_density=motion.position_density,
            heading_density=motion.heading_density,
            speed_density=motion.speed_density,
            turn_rate_density=motion.turn_rate_density,
        )
    along, across = _axes(motion.velocities, names)
    return moving.CoordinatedTurn(
        positions=(first, second),
        velocities=(along, across),
        turn_rate=turn_rate,
        acceleration_density=motion.acceleration_density,
        turn_rate_density=motion.turn_rate_density,
    )


def _axes(wanted: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(names.index(name) for name in wanted)


def _each(value: float | tuple[float, ...], names: tuple[str, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * len(names)
