"""Mixtures of logistic laws on a line, whose parameters a network gives for each case.

A logistic law has the distribution function ``σ((z − m) / s)``, so that probabilities between two places have a closed
form, which is exact in the tails too: ``σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(a − b))``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

COMPONENTS = 8
OUTPUTS = 3 * COMPONENTS + 2  # of a network
FAR = 1e3  # stands for infinity in units of the standardised data
_SCALES = (-9.0, 3.0)  # limits of the log scales


class LineMixture(NamedTuple):
    """Log weights, means and log scales ``(M, K)``."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor

    @classmethod
    def of(cls, outputs: Tensor) -> LineMixture:
        """Read the outputs ``(M, OUTPUTS)`` of a network: the components in a frame, which they share."""
        shape, frame = outputs[:, :-2], outputs[:, -2:]
        weights, offsets, scales = shape.chunk(3, -1)
        place, log_scale = frame[:, :1], frame[:, 1:].clamp(*_SCALES)
        means = place + log_scale.exp() * offsets
        return cls(torch.log_softmax(weights, -1), means, (log_scale + scales).clamp(*_SCALES))

    def _standard(self, places: Tensor) -> Tensor:
        return (places[:, None] - self.means) * (-self.log_scales).exp()

    def log_density(self, places: Tensor) -> Tensor:
        """Log density at `places` ``(M,)``."""
        off = self._standard(places)
        each = logsigmoid(off) + logsigmoid(-off) - self.log_scales
        return torch.logsumexp(self.log_weights + each, -1)

    def below(self, places: Tensor) -> Tensor:
        """Probability below `places` ``(M,)``."""
        return (self.log_weights.exp() * torch.sigmoid(self._standard(places))).sum(-1)

    def log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Log probability between `low` and `high` ``(M,)``."""
        first, last = self._standard(low), self._standard(high)
        each = logsigmoid(last) + logsigmoid(-first) + (-torch.expm1(first - last)).log()
        return torch.logsumexp(self.log_weights + each, -1)


def first_outputs() -> Tensor:
    """Outputs ``(OUTPUTS,)`` to begin with: components side by side over the standardised data."""
    means = torch.linspace(-1.5, 1.5, COMPONENTS)
    return torch.cat([torch.zeros(COMPONENTS), means, torch.full((COMPONENTS,), -1.2), torch.zeros(2)])
