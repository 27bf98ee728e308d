"""A proposal in two steps: the places where most observations leave the posterior, then the other coordinates.

A radar reports distance, bearing and radial speed. Under a wide prior, and with possible outliers, its posterior lies
along a ring, and at each point of it the velocities have another direction. It takes hundreds of Gaussians to cover it.
But where the place is known, the radial speed is linear in the velocity. So a point has two parts: places x come from
the posterior under the observations of these coordinates alone, and the others z from what one update with the rest,
linearised at x, makes of the prior's p(z | x). Both densities are known, so the weights of the points are exact, also
where an observation is not linear in z. It is the factorisation of A. Doucet, N. de Freitas, K. Murphy and S. Russell,
"Rao-Blackwellised Particle Filtering for Dynamic Bayesian Networks", 16th Conference on Uncertainty in Artificial
Intelligence, 2000, as a proposal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, component_log_densities
from beliefstream.inference.update.check.importance import (
    EVENLY,
    SHARES,
    normal_points,
    systematic_places,
)


@dataclass(frozen=True)
class ConditionalProposal:
    """Points of ``B`` problems in ``d`` coordinates."""

    places: GaussianMixture  # (B, J) over the coordinates `axes`
    axes: list[int]
    prior: GaussianMixture  # (B, K) over all
    rest: Observations  # of the other coordinates too

    @classmethod
    def of(
        cls, known: GaussianMixture, axes: list[int], prior: GaussianMixture, rest: Observations
    ) -> ConditionalProposal:
        """The proposal from the posterior `known` ``(B, J)`` of the first observations, over all coordinates.

        A part of its weight is spread evenly, so that a light ring has points too.
        """
        even = math.log(EVENLY) - known.present.sum(1, keepdim=True).log()
        log_weights = torch.logaddexp(known.log_weights + math.log1p(-EVENLY), even)
        known = replace(known, log_weights=torch.where(known.present, log_weights, -math.inf))
        return cls(known.marginal(axes), axes, prior, rest)

    def rows(self, index: Tensor) -> ConditionalProposal:
        """The proposals for the problems at `index`."""
        return replace(
            self,
            places=self.places.rows(index),
            prior=self.prior.rows(index),
            rest=self.rest.rows_of(index),
        )

    @property
    def unseen(self) -> float:
        """Share of the points whose other coordinates keep the prior, as the rest may be outliers."""
        return SHARES[2]

    @property
    def others(self) -> list[int]:
        return [axis for axis in range(self.prior.dimension) if axis not in self.axes]

    def draw(self, count: int, seed: int) -> Tensor:
        """`count` quasi-random points of each problem, ``(B, count, d)``."""
        index = systematic_places(torch.softmax(self.places.log_weights, 1), count)
        row, sizes = torch.arange(self.places.batch)[:, None], [1, len(self.axes), len(self.others)]
        chance, first, second = normal_points(count, sum(sizes), seed).split_with_sizes(sizes, 1)
        x = self.places.means[row, index] + la.times(self.places.factors()[row, index], first)
        unseen = torch.special.ndtr(chance) < self.unseen
        before, after = (mean + la.times(factors, second) for mean, factors in self._given(x))
        return self._joined(x, torch.where(unseen, before, after))

    def log_density(self, points: Tensor) -> Tensor:
        """Log density at `points` ``(B, P, d)``; returns ``(B, P)``."""
        x, z = points[..., self.axes], points[..., self.others]
        before, after = (_log_density(z, mean, factors) for mean, factors in self._given(x))
        either = torch.logaddexp(before + math.log(self.unseen), after + math.log1p(-self.unseen))
        return self.places.log_density(x) + either

    def _joined(self, x: Tensor, z: Tensor) -> Tensor:
        points = x.new_empty(*x.shape[:2], self.prior.dimension)
        points[..., self.axes], points[..., self.others] = x, z
        return points

    def _given(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Means ``(B, P, z)`` and factors ``(B, P, z, z)`` of the others at x ``(B, P, x)``, before the rest and after.

        One Gaussian stands for all components of the prior.
        """
        prior, here, others = self.prior.marginal([*self.axes, *self.others]), len(self.axes), self.others
        near, cross, far = (
            prior.covariances[..., :here, :here],
            prior.covariances[..., here:, :here],
            prior.covariances[..., here:, here:],
        )
        slope = cross @ la.invert(near)
        marginal = GaussianMixture(prior.log_weights, prior.means[..., :here], near)
        share = torch.softmax(component_log_densities(marginal, marginal.factors(), x), 1)[..., None]
        offset = x[:, None] - prior.means[:, :, None, :here]
        means = prior.means[:, :, None, here:] + la.times(slope[:, :, None], offset)
        mean = (share * means).sum(1)
        off = means - mean[:, None]
        spread = (far - slope @ cross.mT)[:, :, None] + la.outer(off, off)
        factors = la.cholesky((share[..., None] * spread).sum(1), torch.finfo(x.dtype).tiny)
        frame = x.new_zeros(*x.shape[:2], prior.dimension, prior.dimension)
        frame[..., torch.tensor(others)[:, None], torch.tensor(others)] = factors
        linear = self.rest.linearise(self._joined(x, mean), frame)
        seen = Prediction.of_linearised(frame, self.rest, linear)
        gain = seen.gain[..., others, :][..., others]
        after = mean + la.times(factors, la.times(gain, seen.gradient[..., others]))
        return (mean, factors), (after, factors @ la.cholesky(gain, torch.finfo(x.dtype).tiny))


def _log_density(z: Tensor, mean: Tensor, factors: Tensor) -> Tensor:
    white = la.times(la.invert_lower(factors), z - mean)
    return -0.5 * la.squared_norm(white) - la.log_diagonal(factors) - 0.5 * z.shape[-1] * LOG_TWO_PI
