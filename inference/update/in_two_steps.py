"""Update in two steps: observations of some coordinates, mostly a place, then those that take other coordinates too.

A radar reports distance, bearing and radial speed. Distance and bearing leave a small part of a wide prior, found by
quadrature. What bends then is the product of the direction and the speed across it: it is linear in the velocity where
the direction is known. So the components that the first step leaves are split along their places, until the other
observations are nearly linear over each, and each part takes the update of `nearly_linear`. Splitting before such an
update is that of F. Faubel, J. McDonough and D. Klakow, "The Split and Merge Unscented Gaussian Mixture Filter", IEEE
Signal Processing Letters 16(9), 2009.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import FUNCTION, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.splitting import DIVISIONS, divide
from beliefstream.inference.update.check.conditional_proposal import ConditionalProposal
from beliefstream.inference.update.closed import nearly_linear
from beliefstream.inference.update.settings import UpdateSettings

# Set on radars, of seeds 177 to 179.
MOST_PARTS = 96  # components after splitting
MOST_BENT = 0.3  # curvature over one standard deviation, in units of the noise, to which components are split
ROUNDS = 2  # of splitting


def seen_first(observations: Observations) -> tuple[Tensor, Tensor]:
    """The coordinates ``(B, d)`` of all sensors but functions, and the observations ``(B, N)`` that touch no others.

    Both are bool, and False where no observation would be left, or one is of a problem of the user.
    """
    touched = (observations.matrix != 0).any(2) | (observations.heading != 0)
    touched = touched & observations.mask[..., None]
    axes = (touched & (observations.kind != FUNCTION)[..., None]).any(1)
    first = observations.mask & ~(touched & ~axes[:, None]).any(2)
    chosen = (observations.mask & ~first).any(1) & first.any(1) & ~observations.has_problem
    return axes & chosen[:, None], first & chosen[:, None]


def has_hypotheses(observations: Observations, first: Tensor) -> Tensor:
    """Whether an observation of `first` ``(B, N)`` may be an outlier, or has noise of several parts; ``(B,)`` bool.

    Then the posterior is a sum of several, and a check could miss one.
    """
    several = (observations.outlier_probability > 0) | (observations.noise_components > 1)
    return (several & first).any(1)


@dataclass(frozen=True)
class TwoSteps:
    """``B`` problems in ``d`` coordinates after the first step."""

    known: GaussianMixture  # (B, J), the posterior of the first step
    axes: list[int]  # coordinates that the first step's observations touch
    prior: GaussianMixture  # (B, K)
    rest: Observations  # of the second step

    def answer(self, settings: UpdateSettings) -> GaussianMixture:
        """The posterior of both steps, of at most `settings.most_components`."""
        parts = narrowed(self.known, self.rest, self.axes)
        limits = settings.most_components, settings.merge_below
        return nearly_linear.update(parts, self.rest, *limits)[0].normalised()

    @property
    def proposal(self) -> ConditionalProposal:
        return ConditionalProposal.of(self.known, self.axes, self.prior, self.rest)


def narrowed(mixture: GaussianMixture, observations: Observations, axes: list[int]) -> GaussianMixture:
    """Split components along the coordinates `axes` until observations are nearly linear over each, as far as possible.

    What bends without these coordinates is left as it is.
    """
    for _ in range(ROUNDS):
        size, line = _bent(mixture, observations, axes)
        division = _divisions(mixture, size)
        if not bool(division.any()):
            break
        mixture, _ = divide(mixture, division, line)
    return mixture


def _bent(mixture: GaussianMixture, observations: Observations, axes: list[int]) -> tuple[Tensor, Tensor]:
    """The largest curvature of each component ``(B, K)``, and one standard deviation along its line ``(B, K, D)``.

    It is in units of the narrowest noise, and the line is one of the `axes`: where it is known, that curvature is gone.
    """
    factors = _factors(mixture, axes)
    linear = observations.linearise(mixture.means, factors)
    narrowest = observations.standard_deviation
    if observations.mixture is not None:
        present = observations.mixture.log_weights > -math.inf
        narrowest = narrowest * torch.where(present, observations.mixture.ratio, math.inf).amin(-1)
    unit = torch.where(observations.mask, narrowest, math.inf)[:, None]
    here = len(axes)
    curvature = linear.curvature[..., :here, :] * (linear.residuals.deviation / unit)[..., None, None]
    squared, lines = torch.linalg.eigh(torch.nan_to_num((curvature @ curvature.mT).sum(2)))
    return squared[..., -1].clamp_min(0).sqrt(), la.times(factors[..., :here], lines[..., -1])


def _factors(mixture: GaussianMixture, axes: list[int]) -> Tensor:
    """Factors of the covariances ``(B, K, D, D)``, of which only the first columns move the coordinates `axes`."""
    order = torch.tensor([*axes, *(axis for axis in range(mixture.dimension) if axis not in axes)])
    return mixture.marginal(order.tolist()).factors()[..., order.argsort(), :]


def _divisions(mixture: GaussianMixture, size: Tensor) -> Tensor:
    """Places in `DIVISIONS` ``(B, K)``: as fine as components bend, those that lose most first while there is room."""
    narrower = torch.tensor([division.narrower for division in DIVISIONS], dtype=size.dtype)
    wanted = (size[..., None] * narrower > MOST_BENT).sum(-1).clamp_max(len(DIVISIONS) - 1)
    lost = mixture.log_weights.exp() * size.square()
    wanted = torch.where(mixture.present, wanted, 0)
    order = lost.argsort(dim=1, descending=True, stable=True)
    parts = mixture.present.sum(1, keepdim=True) + (2 * wanted).gather(1, order).cumsum(1)
    fits = torch.zeros_like(wanted, dtype=torch.bool).scatter(1, order, parts <= MOST_PARTS)
    return torch.where(fits, wanted, 0)
