"""Accumulated error of a belief: an estimate of KL(exact ‖ belief) over its whole history, not only its last update.

Every update, reduction and motion loses some nats. Losses add up, and two things make them fade.

- A shift δ of a Gaussian of covariance P costs ``½ δᵀ P⁻¹ δ``. An update to P⁺ turns it into ``P⁺ P⁻¹ δ``, so its cost
  shrinks by ``trace(P⁺ P⁻¹) / D``, averaged over the directions of δ. Motion with noise Q shrinks it by
  ``1 − trace(Q P⁻¹) / D``, with P the predicted covariance. The first `SMALL` nats of each loss fade this way. An
  update that widens the belief makes the cost grow again, up to `GROWTH` times. Over many weak updates P goes up and
  down; shrinking alone would count only the way down.
- The rest of a loss may be a missed mode. It does not shrink with P; only information can undo it. Of L nats,
  ``L / (1 + n)`` remain after n nats have been learnt, the fall of ``½ log det P`` over all updates since.

P is the covariance of the whole mixture. Everything runs over the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture

SMALL = 0.1  # nats of one loss that fade with the covariance
MOST = 1000.0  # most nats that one update can add, as for an answer that is no density
GROWTH = 1.5  # limit for one update; one that splits the belief in two does not increase the error by as much
_FLOOR = 1e-12  # of correlation matrices


class AccumulatedError(NamedTuple):
    """Accumulated error of one belief in nats: `small` fades with the covariance, `large` with what was `learnt`."""

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
    """Accumulated errors of a batch: the fields of `AccumulatedError`, each ``(B,)`` float64."""

    small: Tensor
    large: Tensor
    learnt: Tensor

    @classmethod
    def of(cls, errors: Sequence[AccumulatedError]) -> AccumulatedErrors:
        """Stack the errors of single entities."""
        return cls(*torch.tensor(errors, dtype=torch.float64).reshape(-1, 3).unbind(1))

    def single(self) -> list[AccumulatedError]:
        """Split into the errors of single entities."""
        columns = (self.small.tolist(), self.large.tolist(), self.learnt.tolist())
        return [AccumulatedError(*row) for row in zip(*columns, strict=True)]

    def rows(self, index: Tensor) -> AccumulatedErrors:
        """The errors of the entities at `index`."""
        return AccumulatedErrors(self.small[index], self.large[index], self.learnt[index])

    def moved(self, predicted: GaussianMixture, noise: Tensor) -> AccumulatedErrors:
        """The errors after a motion to `predicted` that added `noise` ``(B, D, D)`` to the covariance."""
        kept = 1 - _share(noise, predicted.moments()[1])[0].clamp(max=1)
        return AccumulatedErrors(self.small * kept, self.large, self.learnt)

    def updated(self, prior: GaussianMixture, posterior: GaussianMixture) -> AccumulatedErrors:
        """The errors after an update that itself lost nothing."""
        if not bool(((self.small > 0) | (self.large > 0)).any()):
            return self
        kept, information = _share(posterior.moments()[1], prior.moments()[1])
        kept = kept.clamp(max=GROWTH)
        return AccumulatedErrors(self.small * kept, self.large, (self.learnt + information).clamp_min(0))

    def plus(self, lost: Tensor) -> AccumulatedErrors:
        """Add a new loss to each entity ``(B,)``, in nats; a loss that is not finite counts as `MOST`.

        The sum of both parts grows by exactly that. Earlier learnt nats count only for the old share of `large`.
        """
        lost = torch.nan_to_num(lost.double(), nan=MOST).clamp(0, MOST)
        beyond = (lost - SMALL).clamp_min(0)
        left = self.large / (1 + self.learnt)
        share = torch.where(beyond > 0, left / (left + beyond).clamp_min(1e-300), 1.0)
        learnt = self.learnt * share
        large = torch.where(beyond > 0, (left + beyond) * (1 + learnt), self.large)
        return AccumulatedErrors(self.small + lost.clamp(max=SMALL), large, learnt)


def _share(part: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """``trace(part whole⁻¹) / D`` and ``½ log det(whole part⁻¹)``, each ``(B,)``.

    NaN gives 1 and 0: nothing counts as learnt.
    """
    # in units of the whole's standard deviations, as a state may mix metres and millimetres
    scale = whole.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300).rsqrt()
    whole, part = (each * scale[..., None] * scale[..., None, :] for each in (whole, part))
    factor = la.cholesky(whole, _FLOOR)
    trace = (la.invert_from_factor(factor) * part).sum((-2, -1))
    learnt = la.log_diagonal(factor) - la.log_diagonal(la.cholesky(part, torch.finfo(part.dtype).tiny))
    share = torch.nan_to_num(trace / whole.shape[-1], nan=1.0, posinf=1.0).clamp_min(0)
    return share, torch.nan_to_num(learnt, nan=0.0, posinf=0.0, neginf=0.0)
