"""Prediction of beliefs to the times of their next instants, as one batch; components that bend too much are split.

A linear motion is exact. Under a turning motion the mean and the covariance of each component are exact, but a Gaussian
does not have the exact shape; `motion.bend` estimates the loss. If it exceeds `UpdateSettings.bend_below`, the
components with the largest losses are split along the coordinate that reduces the loss most, in several rounds if
needed. Then the mixture is moved, and reduced to the allowed number of components.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.mixtures.splitting import DIVISIONS, divide
from beliefstream.inference.motion import Control, Motion
from beliefstream.inference.motion.bend import TINY, Bend, bend
from beliefstream.inference.motion.turning import Turning
from beliefstream.inference.tracking.accumulated_error import AccumulatedErrors
from beliefstream.inference.tracking.events import Belief, Step, stacked
from beliefstream.inference.tracking.hidden import fading
from beliefstream.inference.tracking.motion_modes import by_mode, has_modes, mixture_of
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.settings import UpdateSettings

Group = tuple[Tensor, Motion, Control | None]  # rows of a batch that move alike
MOST_PARTS = 64  # largest number of components after splitting
TOGETHER = 64  # number of entities that are split at once; bounds the memory that their parts take
_WORTH = 0.02  # share of the tolerance; a component with a smaller weighted loss is not split


class Moved(NamedTuple):
    """A predicted mixture, and the estimate of its divergence from the exact prediction in nats, ``(B,)``."""

    mixture: GaussianMixture
    loss: Tensor


def move(
    motion: Motion,
    mixture: GaussianMixture,
    interval: Tensor,
    control: Control | None = None,
    settings: UpdateSettings | None = None,
) -> Moved:
    """Predict `mixture` ``(B, K, D)`` over `interval` ``(B,)``, seconds; see `Motion.predict`.

    Splitting may add components, up to `UpdateSettings.most_components`. The loss of a linear motion is zero.

    Raises:
        ValueError: the control has a wrong shape, or the motion takes none.
    """
    settings = settings or UpdateSettings()
    moved = motion.predict(mixture, interval, control)
    if not isinstance(motion, Turning):
        return Moved(moved, torch.zeros(mixture.batch, dtype=torch.float64))
    found = _bends(motion, mixture, moved, interval, control)
    loss = found.total
    at = torch.nonzero(loss > (settings.bend_below or math.inf))[:, 0]
    if len(at) == 0:
        return Moved(moved, loss)
    keep = torch.nonzero(~(loss > settings.bend_below))[:, 0]
    parts, order = ([Moved(moved.rows(keep), loss[keep])], [keep]) if len(keep) else ([], [])
    for index in torch.split(at, TOGETHER):
        inputs = None if control is None else Control(control.value[index], control.covariance[index])
        parts.append(_divided(motion, mixture.rows(index), interval[index], inputs, settings))
        order.append(index)
    return together(parts, order)


def together(parts: Sequence[Moved], places: Sequence[Tensor]) -> Moved:
    """Join parts of a batch; `places` are the indices of their entities in the batch."""
    order = torch.argsort(torch.cat(list(places)))
    mixture = concatenate([part.mixture for part in parts]).rows(order)
    return Moved(mixture, torch.cat([part.loss for part in parts])[order])


class _Bends(NamedTuple):
    """Nonlinearity of the motion at all ``N`` used components, and the losses of each entity."""

    bend: Bend  # of N components
    row: Tensor  # (N,)
    place: Tensor  # (N,)
    factor: Tensor  # of state and inputs, and of hidden coordinates in the rows that follow, (N, A + m, A)
    loss: Tensor  # nats of each component, (B, K)
    total: Tensor  # weighted sum, (B,)


def _bends(
    motion: Turning,
    mixture: GaussianMixture,
    moved: GaussianMixture,
    interval: Tensor,
    control: Control | None,
) -> _Bends:
    row, place = torch.nonzero(mixture.present & (interval > 0)[:, None], as_tuple=True)
    mean, covariance = motion.with_inputs(mixture, control)
    size, state = motion.dimension + motion.inputs, motion.dimension
    factor = la.cholesky(covariance[row, place], TINY)[..., :size]
    predicted = moved.covariances[row, place, :state, :state]
    found = bend(motion, mean[row, place, :size], factor[:, :size], interval[row].double(), predicted)
    loss = torch.zeros_like(mixture.log_weights)
    loss[row, place] = found.loss()
    return _Bends(found, row, place, factor, loss, (mixture.log_weights.exp() * loss).sum(1))


def _divided(
    motion: Turning,
    mixture: GaussianMixture,
    interval: Tensor,
    control: Control | None,
    settings: UpdateSettings,
) -> Moved:
    """Split the components with the largest losses, then move and reduce the mixture."""
    spent = torch.zeros(mixture.batch, dtype=torch.float64)
    moved = motion.predict(mixture, interval, control)
    found = _bends(motion, mixture, moved, interval, control)
    while True:
        division, direction = _plan(motion, mixture, found, settings.bend_below)
        if not bool((division > 0).any()):  # at last because there is no room for more
            break
        cost = torch.tensor([each.divergence for each in DIVISIONS], dtype=torch.float64)[division]
        spent = spent + (mixture.log_weights.exp() * cost).sum(1)
        mixture, _ = divide(mixture, division, direction)
        moved = motion.predict(mixture, interval, control)
        found = _bends(motion, mixture, moved, interval, control)
    reduced, lost = condense(moved, settings.most_components, settings.merge_below)
    return Moved(reduced, found.total + spent + lost)


def _plan(
    motion: Turning, mixture: GaussianMixture, found: _Bends, tolerance: float
) -> tuple[Tensor, Tensor]:
    """Return how to split each component, as indices of `DIVISIONS` ``(B, K)``, and along which line ``(B, K, D)``."""
    weight = mixture.log_weights.exp()
    lost = weight * found.loss
    bad = (found.loss > tolerance) & (lost > _WORTH * tolerance) & (found.total > tolerance)[:, None]
    division = torch.zeros_like(bad, dtype=torch.int64)
    direction = torch.zeros_like(mixture.means)
    chosen = torch.nonzero(bad[found.row, found.place])[:, 0]
    if len(chosen) == 0:
        return division, direction
    row, place = found.row[chosen], found.place[chosen]
    bent, factor = found.bend.rows(chosen), found.factor[chosen]
    line = _direction(bent, factor, motion.dimension)
    division[row, place] = _parts(bent, line, tolerance)
    direction[row, place] = la.times(factor, line)[:, motion.without_inputs(mixture)]
    return _with_room(division, lost, mixture.present.sum(1)), direction


def _direction(bent: Bend, factor: Tensor, size: int) -> Tensor:
    """Return the unit vector to split along, ``(N, A)``: the best of one candidate per coordinate."""
    # Lᵀ times the unit vector of each coordinate
    lines = torch.nn.functional.normalize(factor[:, :size], dim=-1)
    width = factor.new_full((len(factor),), DIVISIONS[2].narrower)
    left = torch.stack([bent.narrowed(lines[:, i], width).loss() for i in range(size)], 1)
    return lines[torch.arange(len(lines)), left.argmin(1)]


def _parts(bent: Bend, line: Tensor, tolerance: float) -> Tensor:
    """Return the index of the first of `DIVISIONS` within the tolerance, or of the last, ``(N,)``."""
    enough = []
    for each in DIVISIONS[1:]:
        width = line.new_full((len(line),), each.narrower)
        enough.append(bent.narrowed(line, width).loss() <= tolerance)
    first = torch.stack([*enough[:-1], torch.ones_like(enough[-1])], 1).int().argmax(1)
    return first + 1


def _with_room(division: Tensor, lost: Tensor, count: Tensor) -> Tensor:
    """Limit splitting to the components with the largest losses, so that the parts do not exceed `MOST_PARTS`."""
    more = torch.tensor([each.parts - 1 for each in DIVISIONS])[division]
    order = torch.where(division > 0, lost, -1.0).argsort(dim=1, descending=True, stable=True)
    taken = more.gather(1, order).cumsum(1) <= (MOST_PARTS - count)[:, None]
    fits = torch.zeros_like(taken).scatter(1, order, taken)
    return torch.where(fits, division, 0)


def without_expired(step: Step) -> Step:
    """Return the step without its belief if that has expired; it then starts from the model's prior."""
    belief = step.belief
    if belief is None or step.instant.time - belief.time <= step.model.expires_after:
        return step
    return replace(step, belief=None)


def predict(steps: Sequence[Step]) -> GaussianMixture:
    """Predict beliefs in all their modes to the times of their instants, without splitting components; see `moved`."""
    settings = UpdateSettings(bend_below=0.0)
    if not any(map(has_modes, steps)):
        return moved(steps, settings)[0].mixture
    modal = [i for i, step in enumerate(steps) if has_modes(step)]
    given = dict(zip(modal, by_mode([steps[i] for i in modal], settings.merge_below), strict=True))
    parts = []
    for i, step in enumerate(steps):
        predicted = moved(given[i].steps if i in given else [step], settings)[0].mixture
        parts.append(mixture_of(given[i], predicted) if i in given else predicted)
    return concatenate(parts)


def moved(steps: Sequence[Step], settings: UpdateSettings) -> tuple[Moved, AccumulatedErrors]:
    """Predict beliefs to the times of their instants under the current controls, as one batch, with the loss.

    An entity without a belief gets the model's prior at the time of its instant. The accumulated errors are those of
    the predictions; a prior has none.

    Raises:
        ValueError: an instant is earlier than its belief.
    """
    beliefs, times = begun(steps)
    intervals = torch.tensor(times, dtype=torch.float64)
    mixture = stacked(beliefs)
    groups = list(by_motion(steps, beliefs))
    moved = _moved(groups, mixture, intervals, settings)
    predicted = Moved(_faded(moved.mixture, beliefs, intervals), moved.loss)
    errors = AccumulatedErrors.of([belief.error for belief in beliefs])
    if bool((errors.table[:, 0] * intervals.numpy() > 0).any()):
        state = range(mixture.dimension - len(beliefs[0].hidden.errors))
        noise = _noise(groups, mixture.marginal(state), intervals)
        errors = errors.moved(predicted.mixture.marginal(state), noise)
    return predicted, errors.plus(predicted.loss)


def _faded(mixture: GaussianMixture, beliefs: Sequence[Belief], intervals: Tensor) -> GaussianMixture:
    """Let the hidden coordinates of a mixture fade."""
    if not beliefs[0].hidden.errors:
        return mixture
    factors, variances = map(torch.from_numpy, fading(beliefs, intervals.numpy()))
    before = (mixture.dimension - factors.shape[1], 0)
    matrix = torch.nn.functional.pad(factors, before, value=1.0).diag_embed()
    return mixture.affine(matrix, torch.nn.functional.pad(variances, before).diag_embed())


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
        mean, covariance = mixture.rows(rows).moments()
        point = GaussianMixture.gaussian(mean, torch.zeros_like(covariance))
        # the covariance of a predicted point mass
        noise[rows] = motion.predict(point, intervals[rows], control).covariances[:, 0]
    return noise


def by_motion(steps: Sequence[Step], beliefs: Sequence[Belief]) -> Iterator[Group]:
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
