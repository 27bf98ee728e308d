"""Converts model definitions and stated priors for inference, and outcomes of inference to posterior messages."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, assert_never

import numpy as np
import orjson
from torch import Tensor

from beliefstream.inference import motion as moving
from beliefstream.inference.tracking.events import Belief, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.inference.tracking.hidden import state_part
from beliefstream.inference.tracking.recovery.light_components import heavy_part
from beliefstream.schemas import (
    ConstantAcceleration,
    ConstantVelocity,
    CoordinatedTurn,
    DecayingVelocity,
    LinearMotion,
    MeanReverting,
    Mixture,
    Model,
    Motion,
    Prior,
    RandomWalk,
    Reason,
    Unicycle,
    Unusable,
)
from beliefstream.schemas.motions import Kinematic


def prior_change(prior: Prior, names: tuple[str, ...]) -> PriorChange:
    """Convert a stated prior to the coordinates of a model.

    Raises:
        Unusable: `missing_coordinates` or `wrong_length` if it does not fit the model.
    """
    prior.check_fits(names)
    mixture = belief_from_mixture(prior.mixture, prior.time)
    if prior.coordinates is None:
        return PriorChange(mixture, prior.mode)
    return PriorChange(mixture, prior.mode, tuple(names.index(name) for name in prior.coordinates))


class PosteriorWriter:
    """Writes posterior messages as JSON directly from arrays; `schemas.Posterior` reads them."""

    def __init__(self, model: Model) -> None:
        self._name, self._version, self._include_errors = model.name, model.version, model.include_errors
        coordinates = [coordinate.model_dump() for coordinate in model.coordinates]
        self._coordinates = orjson.Fragment(orjson.dumps(coordinates))

    def write(
        self,
        entity: str,
        outcome: Outcome,
        sequence: int,
        prior_sequence: int,
        applied: list[str],
        revision: int = 0,
    ) -> bytes:
        """Return one message; `sequence` counts the entity's applied messages, `prior_sequence` only its priors."""
        whole = heavy_part(outcome.belief)
        belief = state_part(whole)
        quality: dict[str, float | str | None] = {
            "sample_efficiency": outcome.sample_efficiency,
            "log_evidence": outcome.log_evidence,
            "p_value": outcome.p_value,
            "method": outcome.method,
            "likelihood": "exact",
            "accumulated_error": outcome.accumulated_error,
        }
        if outcome.learned is not None:
            quality["likelihood"] = "learned"
            quality["likelihood_error"] = outcome.learned.error
            quality["outside_training"] = outcome.learned.outside
        message: dict[str, Any] = {
            "entity": entity,
            "time": belief.time,
            "sequence": sequence,
            "revision": revision,
            "coordinates": self._coordinates,
            "mixture": {
                "weights": belief.weights,
                "means": np.ascontiguousarray(belief.means),
                "covariances": np.ascontiguousarray(belief.covariances),
            },
            "quality": quality,
            "applied": applied,
            "prior_sequence": prior_sequence,
            "model": self._name,
            "model_version": self._version,
        }
        if self._include_errors and whole.hidden.errors:
            message["errors"] = list(_errors(whole))
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)


def _errors(belief: Belief) -> Iterator[dict[str, str | float]]:
    """The errors of sensors that last, as `schemas.SensorError`."""
    mean, covariance = belief.mixture().moments()
    state = mean.shape[1] - len(belief.hidden.errors)
    deviations = covariance[0].diagonal().clamp_min(1e-300).sqrt().tolist()
    each = zip(belief.hidden.errors, mean[0].tolist()[state:], deviations[state:], strict=True)
    for error, expected, deviation in each:
        yield {"name": error.name, "mean": expected, "standard_deviation": deviation}


class _NearestStep(moving.FixedStep):
    """A fixed-step motion that rounds an interval to whole steps, as for a belief stored under another model."""

    def _joint(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        return super()._joint((interval.double() / self.step).round() * self.step)


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
        noises = model.motion.noises
        in_modes = (model.motion.with_noise(dict.fromkeys(noises, factor)) for factor in model.modes)
        motions = [motion_over(motion, model.coordinate_names) for motion in (model.motion, *in_modes)]
    except (ArithmeticError, ValueError) as error:
        raise Unusable(Reason.invalid_definition, f"motion: {error}") from error
    expires_after = math.inf if model.expires_after is None else model.expires_after
    prior = belief_from_mixture(model.prior, 0.0)
    whole, *modes = (StateModel(motion, prior, model.components, expires_after) for motion in motions)
    return whole if model.mode_time is None else replace(whole, modes=tuple(modes), mode_time=model.mode_time)


@functools.lru_cache(256)
def motion_over(motion: Motion, names: tuple[str, ...]) -> moving.Motion:
    """Build the motion for a state with the coordinates `names`, which must be those that the motion moves.

    Equal definitions share one motion, so that entities of several models move together.
    """
    match motion:
        case RandomWalk():
            return moving.RandomWalk(_each(motion.spectral_density, names))
        case MeanReverting():
            numbers = (motion.rate, motion.mean, motion.spectral_density)
            return moving.MeanReverting(*(_each(number, names) for number in numbers))
        case ConstantVelocity():
            pairs, controlled = _pairs(motion, names), bool(motion.inputs)
            return moving.ConstantVelocity(
                *pairs, motion.spectral_density, controlled, motion.position_density
            )
        case DecayingVelocity():
            densities = motion.spectral_density, motion.position_density
            return moving.DecayingVelocity(*_pairs(motion, names), motion.time_constant, *densities)
        case ConstantAcceleration():
            levels = *_pairs(motion, names), _axes(motion.accelerations, names)
            return moving.ConstantAcceleration(*levels, motion.spectral_density, motion.position_density)
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
            positions=(first, second),
            heading=names.index(motion.heading),
            speed=None if motion.speed is None else names.index(motion.speed),
            turn_rate=turn_rate,
            position_density=motion.position_density,
            heading_density=motion.heading_density,
            speed_density=motion.speed_density,
            turn_rate_density=motion.turn_rate_density,
        )
    along, across = _axes(motion.velocities, names)
    densities = motion.acceleration_density, motion.turn_rate_density, motion.position_density
    return moving.CoordinatedTurn((first, second), (along, across), turn_rate, *densities)


def _pairs(motion: Kinematic, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes of the positions and of their velocities."""
    return _axes(motion.positions, names), _axes(motion.velocities, names)


def _axes(wanted: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(names.index(name) for name in wanted)


def _each(value: float | tuple[float, ...], names: tuple[str, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * len(names)
