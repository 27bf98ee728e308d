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
- The rest of a loss may be a missed mode. It does not shrink with P; only information can correct it. Of L nats,
  ``L / (1 + n)`` remain after later updates have gained n nats of information, the decrease of ``½ log det P``.

P is the covariance of the whole mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update.result import Method, Update

SMALL = 0.1  # largest part of a loss that fades with the covariance, nats
MOST = 1000.0  # largest loss of one update, nats, for example if the answer is not a density
GROWTH = 1.5  # largest growth of P that counts; an update that splits a belief in two widens it more than its error
LEAST_ALIKE = 0.07  # least correlation of a new error with the earlier ones
OF_BOUND = (
    2 / 3
)  # of 2 461 linearised updates, 95 % lost less than this share of their bound, all together a quarter
_NATIVE = "tracking.native_accumulated_error"
_FLOOR = 1e-12  # smallest pivot of a correlation matrix


class AccumulatedError(NamedTuple):
    """Accumulated error of one belief.

    Attributes:
        small: part that fades with the covariance, nats.
        large: part that fades with information, nats.
        learnt: information gained since, nats.
    """

    small: float = 0.0
    large: float = 0.0
    learnt: float = 0.0

    @property
    def nats(self) -> float:
        """Estimate of KL(exact ‖ belief)."""
        return self.small + self.large / (1 + self.learnt)


NO_ERROR = AccumulatedError()


@dataclass(frozen=True)
class AccumulatedErrors:
    """Accumulated errors of a batch: the fields of `AccumulatedError`, each ``(B,)`` float64.

    `left` is the share of `small` before the current step that is left in it.
    """

    small: Tensor
    large: Tensor
    learnt: Tensor
    left: Tensor

    @classmethod
    def of(cls, errors: Sequence[AccumulatedError]) -> AccumulatedErrors:
        """Stack the errors of single entities."""
        small, large, learnt = torch.tensor(errors, dtype=torch.float64).reshape(-1, 3).unbind(1)
        return cls(small, large, learnt, torch.ones_like(small))

    def single(self) -> list[AccumulatedError]:
        """Split into the errors of single entities."""
        columns = (self.small.tolist(), self.large.tolist(), self.learnt.tolist())
        return [AccumulatedError(*row) for row in zip(*columns, strict=True)]

    def rows(self, index: Tensor) -> AccumulatedErrors:
        """Return the errors of the entities at `index`."""
        return AccumulatedErrors(*(getattr(self, field.name)[index] for field in fields(self)))

    def beside(self, others: AccumulatedErrors) -> AccumulatedErrors:
        """Return these errors, and then the others."""
        names = [field.name for field in fields(self)]
        return AccumulatedErrors(*(torch.cat([getattr(self, name), getattr(others, name)]) for name in names))

    def moved(self, predicted: GaussianMixture, noise: Tensor) -> AccumulatedErrors:
        """Return the errors after a motion to `predicted` that added `noise` ``(B, D, D)`` to the covariance."""
        native = native_form(_NATIVE, noise, predicted.means, predicted.log_weights)
        taken = native.share_of_noise(noise, predicted) if native else share(noise, predicted.moments()[1])
        remaining = 1 - taken[0].clamp(max=1)
        # an error that the motion itself makes has not faded, whatever the batch
        left = torch.where(self.small > 0, self.left * remaining, self.left)
        return AccumulatedErrors(self.small * remaining, self.large, self.learnt, left)

    def updated(self, prior: GaussianMixture, posterior: GaussianMixture) -> AccumulatedErrors:
        """Return the errors after an update, without the loss of the update itself."""
        if not bool(((self.small > 0) | (self.large > 0)).any()):
            return self
        native = native_form(_NATIVE, prior.means, prior.log_weights, posterior.means, posterior.log_weights)
        if native:
            ratio, information = native.share_of_posterior(posterior, prior)
        else:
            ratio, information = share(posterior.moments()[1], prior.moments()[1])
        ratio = ratio.clamp(max=GROWTH).sqrt()
        learnt = (self.learnt + information).clamp_min(0)
        return AccumulatedErrors(self.small * ratio, self.large, learnt, self.left * ratio)

    def plus(self, lost: Tensor) -> AccumulatedErrors:
        """Add a new loss of each entity, ``(B,)``, nats; a loss that is not finite counts as `MOST`.

        It is alike to the earlier ones, see above. Information from before the loss reduces only the earlier share of
        `large`.
        """
        if not bool(lost.any()):  # NaN is not zero
            return self
        new = np.nan_to_num(lost.double().numpy(), nan=MOST).clip(0, MOST)
        beyond, large, learnt = new - SMALL, self.large.numpy(), self.learnt.numpy()
        little, before = np.minimum(new, SMALL), self.small.numpy()
        alike = np.sqrt((1 - self.left.numpy()).clip(LEAST_ALIKE**2))
        small = torch.from_numpy(before + little + 2 * alike * np.sqrt(before * little))
        if not (beyond > 0).any():
            return AccumulatedErrors(small, self.large, self.learnt, self.left)
        is_large, beyond = beyond > 0, np.maximum(beyond, 0.0)
        earlier = large / (1 + learnt)
        kept = np.where(is_large, earlier / np.maximum(earlier + beyond, 1e-300), 1.0)
        learnt = learnt * kept
        large = np.where(is_large, (earlier + beyond) * (1 + learnt), large)
        return AccumulatedErrors(small, torch.from_numpy(large), torch.from_numpy(learnt), self.left)


def counted(update: Update) -> Tensor:
    """Loss of an update that counts, ``(B,)``, nats."""
    bound = update.method == int(Method.LINEARISED)
    return torch.where(bound, OF_BOUND, 1.0).double() * update.divergence


def share(part: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``trace(part whole⁻¹) / D`` and ``½ log det(whole part⁻¹)``, each ``(B,)``; 1 and 0 instead of NaN.

    On the CPU, `native_accumulated_error` finds it without PyTorch's operators.
    """
    # in units of the standard deviations of `whole`, because coordinates may have very different scales
    scale = whole.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
    whole, part = (each * scale[..., None] * scale[..., None, :] for each in (whole, part))
    factor = la.cholesky(whole, _FLOOR)
    trace = (la.invert_from_factor(factor) * part).sum((-2, -1))
    learnt = la.log_diagonal(factor) - la.log_diagonal(la.cholesky(part, torch.finfo(part.dtype).tiny))
    share = torch.nan_to_num(trace / whole.shape[-1], nan=1.0, posinf=1.0).clamp_min(0)
    return share, torch.nan_to_num(learnt, nan=0.0, posinf=0.0, neginf=0.0)
