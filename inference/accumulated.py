"""How far a belief may be from the exact one by all that happened to it, not by its last update alone.

What is lost by an update, by a reduction or by motion is an estimate of KL(exact ‖ belief) in nats. Losses add up, and
two things make them fade.

- A shift δ of a Gaussian of covariance P costs ``½ δᵀ P⁻¹ δ``. An update to P⁺ turns it into ``P⁺ P⁻¹ δ``, so its cost
  shrinks by ``trace(P⁺ P⁻¹) / D``, averaged over the directions of δ. Motion with noise Q shrinks it by
  ``1 − trace(Q P⁻¹) / D``, P predicted. Of each loss the first `SMALL` nats fade so. An update that leaves the belief
  wider than it was makes the cost grow again, up to `GROWTH` times: over many weak updates P goes up and down, and
  shrinking alone would count the way down only.
- What goes beyond may be a mode that was missed. It does not shrink with P, and only information can undo it: of L nats
  ``L / (1 + n)`` are left once n nats have been learnt, the fall of ``½ log det P`` over all updates since.

P is the covariance of the whole mixture. Everything runs over the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.mixture import GaussianMixture

SMALL = 0.1  # nats of one loss that fade with the covariance
MOST = 1000.0  # nats that one update can add: an answer that is no density is infinitely far off
GROWTH = 1.5  # of the cost in one update; one that tears the belief in two has not made it so much worse
_FLOOR = 1e-12  # of correlation matrices


class AccumulatedError(NamedTuple):
    """Of one belief, in nats: `small` fades with the covariance, `large` with what was `learnt` since."""

    small: float = 0.0
    large: float = 0.0
    learnt: float = 0.0

    @property
    def nats(self) -> float:
        """An estimate of KL(exact ‖ belief)."""
        return self.small + self.large / (1 + self.learnt)


NO_ERROR = AccumulatedError()


@dataclass(frozen=True)
class AccumulatedErrors:
    """Of a batch: as `AccumulatedError`, each ``(B,)`` float64."""

    small: Tensor
    large: Tensor
    learnt: Tensor

    @classmethod
    def of(cls, errors: Sequence[AccumulatedError]) -> AccumulatedErrors:
        """From one for each entity."""
        return cls(*torch.tensor(errors, dtype=torch.float64).reshape(-1, 3).unbind(1))

    def single(self) -> list[AccumulatedError]:
        """One for each entity."""
        columns = (self.small.tolist(), self.large.tolist(), self.learnt.tolist())
        return [AccumulatedError(*row) for row in zip(*columns, strict=True)]

    def rows(self, index: Tensor) -> AccumulatedErrors:
        """Of some of the entities."""
        return AccumulatedErrors(self.small[index], self.large[index], self.learnt[index])

    def moved(self, predicted: GaussianMixture, noise: Tensor) -> AccumulatedErrors:
        """After a motion to `predicted` that added `noise` ``(B, D, D)`` to the covariance."""
        kept = 1 - _share(noise, predicted.moments()[1])[0].clamp(max=1)
        return AccumulatedErrors(self.small * kept, self.large, self.learnt)

    def updated(self, prior: GaussianMixture, posterior: GaussianMixture) -> AccumulatedErrors:
        """After an update that lost nothing itself."""
        if not bool(((self.small > 0) | (self.large > 0)).any()):
            return self
        kept, information = _share(posterior.moments()[1], prior.moments()[1])
        kept = kept.clamp(max=GROWTH)
        return AccumulatedErrors(self.small * kept, self.large, (self.learnt + information).clamp_min(0))

    def plus(self, lost: Tensor) -> AccumulatedErrors:
        """With a new loss of each ``(B,)``, in nats; what is not finite counts as `MOST`.

        The sum of both parts grows by just that. What had been learnt before counts for the old share of `large` only.
        """
        lost = torch.nan_to_num(lost.double(), nan=MOST).clamp(0, MOST)
        beyond = (lost - SMALL).clamp_min(0)
        left = self.large / (1 + self.learnt)
        share = torch.where(beyond > 0, left / (left + beyond).clamp_min(1e-300), 1.0)
        learnt = self.learnt * share
        large = torch.where(beyond > 0, (left + beyond) * (1 + learnt), self.large)
        return AccumulatedErrors(self.small + lost.clamp(max=SMALL), large, learnt)


def _share(part: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """``trace(part whole⁻¹) / D``, and ``½ log det(whole part⁻¹)``, each ``(B,)``.

    What is not a number gives 1 and 0: nothing is taken for learnt.
    """
    # in units of the whole's deviations: metres and millimetres may be in one state
    scale = whole.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
    whole, part = (each * scale[..., None] * scale[..., None, :] for each in (whole, part))
    factor = la.cholesky(whole, _FLOOR)
    trace = (la.invert_from_factor(factor) * part).sum((-2, -1))
    learnt = la.log_diagonal(factor) - la.log_diagonal(la.cholesky(part, torch.finfo(part.dtype).tiny))
    share = torch.nan_to_num(trace / whole.shape[-1], nan=1.0, posinf=1.0).clamp_min(0)
    return share, torch.nan_to_num(learnt, nan=0.0, posinf=0.0, neginf=0.0)
