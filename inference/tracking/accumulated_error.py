"""Accumulated error of a belief: an estimate of KL(exact ‖ belief) over its whole history.

Every update, reduction and motion loses some nats. Losses add up, and fade for two reasons.

- The first `SMALL` nats of each loss are half the variance of the log ratio of both densities over the belief. How fast
  this fades depends on the shape of the ratio. Of a shift, the ratio is linear, and the loss falls as P in updates. An
  answer of a network, or a mixture of few components, is off in many places, and the ratio is rough. Of a Brownian
  path, the variance over an interval grows as its length, so the loss falls as the root of P: an update to P⁺
  multiplies it by ``√(trace(P⁺ P⁻¹) / D)``. This power was measured on chains (docs/quality.md). An update that widens
  the belief increases the loss again: over many weak updates P fluctuates, and factors below one alone would
  underestimate the error. Motion with noise Q smooths a rough ratio sooner than a linear one. So there a shift decides:
  ``1 − trace(Q P⁻¹) / D``, with the predicted covariance P.
- Errors of successive updates are alike: the same sensors bend the same components. Half the variance of a sum of two
  log ratios with correlation ρ is ``s + l + 2 ρ √(s l)``, of an earlier error s and a new loss l. ρ is the root of the
  share of s that fades in the step, because a short memory holds only the latest errors, and at least `LEAST_ALIKE`:
  over a thousand updates of entities at rest, parts of the chain still had errors of one sign (docs/quality.md).
- A linearised update is chosen by a bound on its loss, of which `OF_BOUND` is counted.
- An update may drop a share of `LOST`, which later observations may confirm. Their evidence against the belief is its
  doubt d (`doubt`). What was lost is then up to ``LOST e^d`` times the belief.
- The rest of a loss may be a missed mode. It does not shrink with P; only information can correct it. Of L nats,
  ``L / (1 + n)`` remain after later updates have gained n nats of information, the decrease of ``½ log det P``.

P is the covariance of the whole mixture, over the state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    TINY,
    factorise,
    invert_product,
)
from beliefstream.inference.update.result import Answer, Method

Array = NDArray[np.float64]
Workspace = tuple[Array, Array, Array, Array, Array, Array]
Mixture = tuple[Array, Array, Array]  # log weights (K,), means (K, D) and covariances (K, D, D)

SMALL = 0.1  # largest part of a loss that fades with the covariance, nats
MOST = 1000.0  # largest loss of one update, nats, for example if the answer is not a density
GROWTH = 1.5  # largest growth of P that counts; an update that splits a belief in two widens it more than its error
# share of the posterior that an update may drop: of an answer that is off by `UpdateSettings.merge_below`
LOST = 1e-3
LEAST_ALIKE = 0.07  # least correlation of a new error with the earlier ones
# of 2 461 linearised updates, 95 % lost less than this share of their bound, all together a quarter
OF_BOUND = 2 / 3


class AccumulatedError(NamedTuple):
    """Accumulated error of one belief.

    Attributes:
        small: part that fades with the covariance, nats.
        large: part that fades with information, nats.
        learnt: information gained since, nats.
        doubt: evidence of recent observations against the belief, nats; see `doubt`.
    """

    small: float = 0.0
    large: float = 0.0
    learnt: float = 0.0
    doubt: float = 0.0

    @property
    def nats(self) -> float:
        """Estimate of KL(exact ‖ belief)."""
        lost = math.log1p(LOST * math.expm1(self.doubt))
        return self.small + self.large / (1 + self.learnt) + lost


NO_ERROR = AccumulatedError()


@dataclass(frozen=True)
class AccumulatedErrors:
    """Accumulated errors of a batch.

    Attributes:
        table: the fields of `AccumulatedError` but doubt, and the share of `small` before the current step that is left
            in it, ``(B, 4)``.
    """

    table: Array

    @classmethod
    def of(cls, errors: Sequence[AccumulatedError]) -> AccumulatedErrors:
        """Stack the errors of single entities."""
        table = np.ones((len(errors), 4))
        table[:, :3] = [error[:3] for error in errors]
        return cls(table)

    def single(self) -> list[AccumulatedError]:
        """Split into the errors of single entities."""
        return [AccumulatedError(*row) for row in self.table[:, :3].tolist()]

    def rows(self, index: Tensor) -> AccumulatedErrors:
        """Return the errors of the entities at `index`."""
        return AccumulatedErrors(self.table[index.numpy()])

    def moved(self, predicted: GaussianMixture, noise: Tensor) -> AccumulatedErrors:
        """Return the errors after a motion to `predicted` that added `noise` ``(B, D, D)`` to the covariance."""
        found = self.table.copy()
        _move_all(predicted.numbers, array(noise), found)
        return AccumulatedErrors(found)

    def updated(self, prior: GaussianMixture, posterior: GaussianMixture) -> AccumulatedErrors:
        """Return the errors after an update, without the loss of the update itself."""
        found = self.table.copy()
        _update_all(prior.numbers, posterior.numbers, found)
        return AccumulatedErrors(found)

    def plus(self, lost: Tensor) -> AccumulatedErrors:
        """Add a new loss of each entity, ``(B,)``, nats; see `add_loss`."""
        found = self.table.copy()
        _add_all(array(lost), found)
        return AccumulatedErrors(found)


def counted(update: Answer) -> Tensor:
    """Loss of an update that counts, ``(B,)``, nats."""
    bound = update.method == int(Method.LINEARISED)
    return torch.where(bound, OF_BOUND, 1.0).double() * update.lost


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(one[0].log(), one, one[..., None])
    errors = AccumulatedErrors.of([AccumulatedError(0.1, 0.1, 0.1)])
    errors.moved(mixture, one).updated(mixture, mixture).plus(one[0, 0])


@native
def _move_all(predicted: Numbers, noise: Array, errors: Array) -> None:
    work = space_for(noise.shape[1])
    for b in range(len(noise)):
        fade_by_motion((predicted[0][b], predicted[1][b], predicted[2][b]), noise[b], work, errors[b])


@native
def _update_all(prior: Numbers, posterior: Numbers, errors: Array) -> None:
    size = prior[1].shape[2]
    work, part = space_for(size), np.empty((size, size))
    for b in range(len(prior[1])):
        one = (prior[0][b], prior[1][b], prior[2][b])
        fade_by_update(one, (posterior[0][b], posterior[1][b], posterior[2][b]), part, work, errors[b])


@native
def _add_all(lost: Array, errors: Array) -> None:
    for b in range(len(lost)):
        add_loss(lost[b], errors[b])


@borrowing
def fade_by_motion(predicted: Mixture, noise: Array, work: Workspace, error: Array) -> None:
    """Let an error fade in a motion to `predicted` that adds `noise`, in place."""
    _fill_covariance(predicted, work[0], work[1])
    remaining = 1 - min(_share_of(noise, work)[0], 1.0)
    # an error that the motion itself makes has not faded
    error[3] *= remaining if error[0] > 0 else 1.0
    error[0] *= remaining


@borrowing
def fade_by_update(prior: Mixture, posterior: Mixture, part: Array, work: Workspace, error: Array) -> None:
    """Let an error fade in an update, in place; `part` ``(D, D)`` is space."""
    if error[0] > 0 or error[1] > 0:
        _fill_covariance(posterior, part, work[1])
        _fill_covariance(prior, work[0], work[1])
        ratio, information = _share_of(part, work)
        left = math.sqrt(min(ratio, GROWTH))
        error[0] *= left
        error[3] *= left
        error[2] = max(error[2] + information, 0.0)


@borrowing
def add_loss(loss: float, error: Array) -> None:
    """Add a new loss to an error, in place; a loss that is not a number counts as `MOST`.

    It is alike to the earlier ones, see above. Information from before the loss reduces only the earlier share of the
    large part.
    """
    new = min(max(loss, 0.0), MOST) if loss == loss else MOST
    little, alike = min(new, SMALL), math.sqrt(max(1 - error[3], LEAST_ALIKE * LEAST_ALIKE))
    error[0] += little + 2 * alike * math.sqrt(error[0] * little)
    beyond = new - SMALL
    if beyond > 0:
        earlier = error[1] / (1 + error[2])
        error[2] *= earlier / max(earlier + beyond, 1e-300)
        error[1] = (earlier + beyond) * (1 + error[2])


@inner
def space_for(size: int) -> Workspace:
    matrices = np.empty((5, size, size))
    return matrices[0], np.empty(size), matrices[1], matrices[2], matrices[3], matrices[4]


@borrowing
def _fill_covariance(mixture: Mixture, into: Array, mean: Array) -> None:
    """Fill the covariance of a whole mixture; `mean` is space to work in."""
    log_weights, means, covariances = mixture
    size = len(mean)
    for i in range(size):
        mean[i] = 0.0
        for j in range(size):
            into[i, j] = 0.0
    for k in range(len(log_weights)):
        weight = math.exp(log_weights[k])
        for i in range(size):
            mean[i] += weight * means[k, i]
    for k in range(len(log_weights)):
        weight = math.exp(log_weights[k])
        for i in range(size):
            for j in range(i + 1):
                offset = (means[k, i] - mean[i]) * (means[k, j] - mean[j])
                entry = 0.5 * (covariances[k, i, j] + covariances[k, j, i])
                into[i, j] += weight * (entry + offset)
    for i in range(size):
        for j in range(i):
            into[j, i] = into[i, j]


@borrowing
def _share_of(part: Array, work: Workspace) -> tuple[float, float]:
    """``trace(part whole⁻¹) / D`` and ``½ log det(whole part⁻¹)``; 1 and 0 in place of what is not a number.

    The `whole` covariance is the first of `work`. Both are in units of its standard deviations, because coordinates may
    have very different scales.
    """
    whole, scale, scaled, factor, lower, inverse = work
    size = len(scale)
    for i in range(size):
        scale[i] = 1 / math.sqrt(max(whole[i, i], 1e-300))
    for i in range(size):
        for j in range(size):
            scaled[i, j] = whole[i, j] * scale[i] * scale[j]
    factorise(scaled, LEAST_PIVOT, ROUNDING, factor)
    invert_product(factor, lower, inverse)
    trace = learnt = 0.0
    for i in range(size):
        learnt += math.log(factor[i, i])
        for j in range(size):
            scaled[i, j] = part[i, j] * scale[i] * scale[j]
            trace += inverse[i, j] * scaled[i, j]
    factorise(scaled, TINY, ROUNDING, factor)
    for i in range(size):
        learnt -= math.log(factor[i, i])
    share = trace / size
    if math.isnan(share) or share == math.inf:
        share = 1.0
    return (0.0 if share < 0 else share), (learnt if math.isfinite(learnt) else 0.0)
