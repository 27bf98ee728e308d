"""Predicts beliefs to the times of their next instants, as one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Control, Motion
from beliefstream.inference.motion.linear import LinearMotion
from beliefstream.inference.tracking.accumulated_error import AccumulatedErrors
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.mixture_prediction import Moved, move, together
from beliefstream.inference.tracking.stacking import stacked
from beliefstream.inference.update.settings import UpdateSettings

NO_SPLITTING = UpdateSettings(bend_below=0.0)
Group = tuple[Tensor, Motion, Control | None]  # rows of a batch that move alike


class Step(msgspec.Struct, frozen=True, eq=False):
    """The next instant of an entity, with its model and its belief; None if it has no belief yet."""

    belief: Belief | None
    model: StateModel
    instant: Instant


def without_expired(step: Step) -> Step:
    """Return the step without its belief if that has expired; it then starts from the model's prior."""
    belief = step.belief
    if belief is None or step.instant.time - belief.time <= step.model.expires_after:
        return step
    return replace(step, belief=None)


def predict(steps: Sequence[Step]) -> GaussianMixture:
    """Predict beliefs to the times of their instants, without splitting components; see `moved`."""
    return moved(steps, NO_SPLITTING).mixture


def moved(steps: Sequence[Step], settings: UpdateSettings) -> Moved:
    """Predict beliefs to the times of their instants under the current controls, as one batch, with the loss.

    An entity without a belief gets the model's prior at the time of its instant.

    Raises:
        ValueError: an instant is earlier than its belief.
    """
    return moved_with_errors(steps, settings)[0]


def moved_with_errors(steps: Sequence[Step], settings: UpdateSettings) -> tuple[Moved, AccumulatedErrors]:
    """Predict as `moved`, and return the accumulated errors of the predictions too; a prior has none."""
    beliefs, times = begun(steps)
    intervals = torch.tensor(times, dtype=torch.float64)
    mixture = stacked(beliefs)
    groups = list(_by_motion(steps, beliefs))
    predicted = _moved(groups, mixture, intervals, settings)
    errors = AccumulatedErrors.of([belief.error for belief in beliefs])
    if bool((errors.small * intervals > 0).any()):
        errors = errors.moved(predicted.mixture, _noise(groups, mixture, intervals))
    return predicted, errors.plus(predicted.loss)


def begun(steps: Sequence[Step]) -> tuple[list[Belief], list[float]]:
    """Return the beliefs that the steps begin with, and the time to their instants, seconds; see `moved`."""
    beliefs = [step.belief or replace(step.model.prior, time=step.instant.time) for step in steps]
    intervals = [step.instant.time - belief.time for step, belief in zip(steps, beliefs, strict=True)]
    if min(intervals) < 0:
        late = next(row for row, interval in enumerate(intervals) if interval < 0)
        raise ValueError(
            f"time: {steps[late].instant.time} is earlier than the belief's {beliefs[late].time}"
        )
    return beliefs, intervals


def _moved(
    groups: Sequence[Group], mixture: GaussianMixture, intervals: Tensor, settings: UpdateSettings
) -> Moved:
    """Move `mixture` by the model and control of each step."""
    parts, order = [], []
    for rows, motion, control in groups:
        alone = len(rows) == len(intervals)
        some, interval = (mixture, intervals) if alone else (mixture.rows(rows), intervals[rows])
        parts.append(move(motion, some, interval, control, settings))
        order.append(rows)
    return parts[0] if len(parts) == 1 else together(parts, order)


def _noise(groups: Sequence[Group], mixture: GaussianMixture, intervals: Tensor) -> Tensor:
    """The covariance ``(B, D, D)`` that the motion adds to the mean of each mixture."""
    noise = torch.zeros(mixture.batch, mixture.dimension, mixture.dimension, dtype=torch.float64)
    for rows, motion, control in groups:
        if isinstance(motion, LinearMotion):
            noise[rows] = motion.added_noise(intervals[rows], control)
            continue
        mean, covariance = mixture.rows(rows).moments()
        point = GaussianMixture.gaussian(mean, torch.zeros_like(covariance))
        # the covariance of a predicted point mass
        noise[rows] = motion.predict(point, intervals[rows], control).covariances[:, 0]
    return noise


def _by_motion(steps: Sequence[Step], beliefs: Sequence[Belief]) -> Iterator[Group]:
    """Yield the groups of a batch, each with its motion and its controls."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        found[id(step.model.motion)].append(index)
    for indices in found.values():
        motion = steps[indices[0]].model.motion
        control = controls([beliefs[index] for index in indices], motion.inputs)
        yield torch.tensor(indices), motion, control


def controls(beliefs: Sequence[Belief], count: int) -> Control | None:
    """Return the inputs of all beliefs, exactly zero if none was reported; None if no belief has any.

    Inputs that were reported for a motion with another number of inputs are ignored.
    """
    if not count:
        return None
    controls = [belief.control for belief in beliefs]
    if all(control is None for control in controls):
        return None
    value, covariance = np.zeros((len(controls), count)), np.zeros((len(controls), count, count))
    for row, control in enumerate(controls):
        if control is not None and len(control.value) == count:
            value[row], covariance[row] = control.value, control.covariance
    return Control(torch.from_numpy(value), torch.from_numpy(covariance))
