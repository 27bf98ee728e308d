"""Weights of an answer's components, where some lie apart.

The network's weights have a small bias. Between components that overlap it fades. Between modes that lie apart, no
later observation corrects it, and over many updates it adds up. So there each weight is computed once more, as in one
step of expectation-maximisation: with q the answer, N_j its components and p the exact posterior,
``w_j ← w_j E_{N_j}[p / q]``. The ratio is smooth where the answer is good, so a Gauss–Hermite rule of few nodes is
enough. It has no sampling error. The divergence KL(p ‖ q) cannot rise, up to the error of the rule (A. P. Dempster,
N. M. Laird and D. B. Rubin, "Maximum Likelihood from Incomplete Data via the EM Algorithm", J. Royal Statistical
Society B 39(1), 1977).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.local_problem import LocalProblem

APART = 25.0  # squared distance of two means, in the sum of their covariances, above which they lie apart
LIGHT = 1e-3  # weight below which a component does not count for that
NODES = 3  # of the rule, along each axis
MOST_AXES = 3  # with more, the 2 d cubature points are used
SMOOTH = 0.3  # effective share of the nodes below which the ratio is too rough for the rule


def reweighted(local: LocalProblem, whole: GaussianMixture) -> GaussianMixture:
    """Correct the weights of an answer `whole` over the state, for the problems where components lie apart."""
    if whole.components == 1:
        return whole
    answer = whole.marginal(local.axes).in_coordinates(local.shift, local.scale)
    index = torch.nonzero(apart(answer))[:, 0]
    if len(index) == 0:
        return whole
    found, sound = _weights(local.rows(index), answer.rows(index))
    log_weights = whole.log_weights.clone()
    log_weights[index[sound]] = found[sound]
    return GaussianMixture(log_weights, whole.means, whole.covariances)


def apart(answer: GaussianMixture) -> Tensor:
    """Which mixtures have two components of weight that lie apart, ``(B,)`` bool."""
    heavy = answer.log_weights > math.log(LIGHT)
    first, second = torch.triu_indices(answer.components, answer.components, 1)
    offset = answer.means[:, first] - answer.means[:, second]
    total = answer.covariances[:, first] + answer.covariances[:, second]
    factors = la.cholesky(total, torch.finfo(total.dtype).tiny)
    distance = la.squared_norm(la.times(la.invert_lower(factors), offset))
    finite = answer.covariances.isfinite().flatten(1).all(1)
    return finite & (heavy[:, first] & heavy[:, second] & (distance > APART)).any(1)


def _weights(local: LocalProblem, answer: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Corrected log weights ``(B, J)``, and where they can be trusted ``(B,)`` bool."""
    nodes, shares = _rule(answer.dimension)
    # along the axes of the covariance, so that the nodes turn with the coordinates
    values, axes = torch.linalg.eigh(answer.covariances)
    factors = axes * values.clamp_min(0).sqrt()[..., None, :]
    points = answer.means[:, :, None] + la.times(factors[:, :, None], nodes)
    flat = points.flatten(1, 2)
    exact = local.prior64.log_density(flat) + local.observations64.log_likelihood(flat)
    ratio = (exact - answer.log_density(flat)).view(*answer.log_weights.shape, -1)
    ratio = torch.where(answer.present[..., None], ratio + shares.log(), -math.inf)
    masses = answer.log_weights + torch.logsumexp(ratio, 2)
    log_evidence = torch.logsumexp(masses, 1, keepdim=True)
    square = answer.log_weights + torch.logsumexp(2 * ratio - shares.log(), 2)
    effective = (2 * log_evidence[:, 0] - torch.logsumexp(square, 1)).exp()
    found = masses - log_evidence
    return found, (effective > SMOOTH) & ~found.isnan().any(1)


def _rule(size: int) -> tuple[Tensor, Tensor]:
    """Nodes ``(M, size)`` and weights ``(M,)`` for a standard Gaussian."""
    if size <= MOST_AXES:
        return rule(NODES, size)
    steps = math.sqrt(size) * torch.eye(size, dtype=torch.float64)
    return torch.cat([steps, -steps]), torch.full((2 * size,), 0.5 / size, dtype=torch.float64)
