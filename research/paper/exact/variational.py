"""Mean-field variational inference: the Gaussian q with the smallest KL(q ‖ posterior), as a baseline.

With one parameter, mean field is a Gaussian q = N(m, s²). The bound E_q[log p(u, data)] + log s is computed by
Gauss-Hermite quadrature, so there is no noise of draws. Newton steps maximise it: the derivatives of the bound are
those of the log density, averaged over q (Opper and Archambeau 2009, equations 10 and 11).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from research.paper.scalar import ScalarMixture

NODES = 20
ROUNDS = 40
DAMPING = 0.5  # share of a step
LONGEST = 1.0  # step of the mean in deviations

LogJoint = Callable[[Tensor], Tensor]


def variational_gaussian(log_joint: LogJoint, centre: Tensor, scale: Tensor) -> ScalarMixture:
    """Return q for each problem.

    Args:
        log_joint: unnormalised log density at points ``(B, P)``.
        centre: first mean ``(B,)``.
        scale: first standard deviation ``(B,)``.
    """
    nodes, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(NODES))
    weights = weights / weights.sum()
    for _ in range(ROUNDS):
        values = log_joint(centre[:, None] + scale[:, None] * nodes)
        # Stein: E[f'] = E[f x] / s and E[f''] = E[f (x² - 1)] / s², for x the node
        slope = (weights * values * nodes).sum(1) / scale
        curve = (weights * values * (nodes.square() - 1)).sum(1) / scale.square()
        precision = (-curve).clamp(scale.square().reciprocal() / 4, scale.square().reciprocal() * 4)
        step = (slope / precision).clamp(-LONGEST * scale, LONGEST * scale)
        centre = centre + DAMPING * step
        scale = ((1 - DAMPING) * scale.log() - DAMPING * 0.5 * precision.log()).exp()
    zero = torch.zeros_like(centre)[:, None]
    return ScalarMixture(zero, centre[:, None], scale.log()[:, None])
