"""Regularised particle filter: adds kernel noise after resampling, and applies a sharp likelihood in parts.

Resampling copies particles. Here each copy is drawn from a Gaussian kernel around its original, so that no two are
equal. With the weighted mean ``m`` and covariance ``S`` of the particles,

    x ← m + √(1 − h²) (x − m) + h N(0, S),

which preserves both, because the centres shrink by as much as the kernels widen. ``h`` is a fraction of Silverman's
rule for the sample efficiency: one half, to suit beliefs with several modes. If the likelihood is so narrow that
few particles would have weight, it is raised to a power that leaves enough of them. The particles are resampled, and
the rest of the likelihood is applied in the same way (progressive correction).

C. Musso, N. Oudjane and F. Le Gland, "Improving regularised particle filters", and J. Liu and M. West, "Combined
parameter and state estimation in simulation-based filtering" (shrunk centres), both in Doucet, de Freitas and Gordon
(eds.), Sequential Monte Carlo Methods in Practice, 2001.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.streams.scores.filters.particle import ParticleFilter, sample_efficiency

BANDWIDTH = 0.5  # of the kernels, as a fraction of Silverman's rule
LEAST_SHARE = 0.1  # smallest effective share of the particles after a part of the likelihood
MOST_PARTS = 50
_HALVINGS = 20  # number of halvings of the interval that contains the power
_LOWEST = -1e30  # log likelihood of impossible values; finite, so that its powers are defined


class RegularisedParticleFilter(ParticleFilter):
    """Weighted particles of ``B`` entities in ``D`` coordinates, float64; see `ParticleFilter` for arguments."""

    def update(self, observations: Observations) -> None:
        """Multiply the weights by the likelihood of all observations of an entity, in parts if it is narrow."""
        left = self.log_weights.new_ones(len(self.log_weights))
        for _ in range(MOST_PARTS):
            log_likelihood = self._log_likelihood(observations).clamp_min(_LOWEST)
            power = self._power(log_likelihood, left)
            self._weigh(power, log_likelihood)
            left = left - power
            if not bool((left > 0).any()):
                return
            self._redraw(left > 0)
        self._weigh(left, self._log_likelihood(observations).clamp_min(_LOWEST))

    def _weigh(self, power: Tensor, log_likelihood: Tensor) -> None:
        self.log_weights = torch.log_softmax(self.log_weights + power[:, None] * log_likelihood, -1)

    def _power(self, log_likelihood: Tensor, left: Tensor) -> Tensor:
        """Return the largest power up to `left` that leaves enough particles, both ``(B,)``; 0 if none does."""

        def enough(power: Tensor) -> Tensor:
            weights = torch.log_softmax(self.log_weights + power[:, None] * log_likelihood, -1)
            return sample_efficiency(weights) >= LEAST_SHARE * weights.shape[1]

        whole = enough(left)
        if bool(whole.all()):
            return left
        low, high = torch.zeros_like(left), left
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            fine = enough(middle)
            low, high = torch.where(fine, middle, low), torch.where(fine, high, middle)
        return torch.where(whole, left, low)

    def _redraw(self, poor: Tensor) -> None:
        """Resample the entities `poor`, drawing each particle from the kernel around its original."""
        density = self.density()
        mean, bandwidth = density.moments()[0][poor, None], BANDWIDTH * density.bandwidth()[poor, None, None]
        factor = torch.linalg.cholesky(density.spread()[poor])
        super()._redraw(poor)
        chosen = self.particles[poor]
        noise = torch.randn(chosen.shape, generator=self.generator, dtype=chosen.dtype, device=chosen.device)
        drawn_in = mean + (1 - bandwidth.square()).clamp_min(0).sqrt() * (chosen - mean)
        self.particles[poor] = drawn_in + bandwidth * (noise @ factor.mT)
