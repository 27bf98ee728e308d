"""Extension of an answer to the coordinates that no sensor touches.

Given the seen coordinates y, the others follow the prior:

    p(x | y) = Σ_k r_k(y) N(x; m_k + G_k (y − H m_k), P_k − G_k H P_k),    G_k = P_k Hᵀ (H P_k Hᵀ)⁻¹,

with r_k the responsibilities of the prior's components. A component of the answer is small beside the prior, so the
average responsibilities over it are used.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, component_log_densities
from beliefstream.inference.mixtures.native_tensors import is_native
from beliefstream.inference.update import native_unseen
from beliefstream.inference.update.importance import normal_points

LEAST_RESPONSIBILITY = 1e-3  # least responsibility of a prior component for a component of the answer
MERGED_BELOW = 2e-3  # nats; allowed cost of merging the sources of a component of the answer


def extend(
    answer: GaussianMixture, responsibilities: Tensor, whole: GaussianMixture, axes: list[int]
) -> GaussianMixture:
    """Extend `answer` ``(B, J, d)`` over `axes`, in the state's units, to all ``D`` coordinates.

    `responsibilities` ``(B, J, K)`` are those of the components of `whole`, the prior. The sources of each component
    are merged into one Gaussian, or kept apart where one Gaussian is not enough.
    """
    shares = torch.where(responsibilities < LEAST_RESPONSIBILITY, 0.0, responsibilities)
    shares = shares / shares.sum(2, keepdim=True)
    shares, source = shares.sort(dim=2, descending=True, stable=True)
    most = max(1, int((shares * answer.present[..., None] > 0).sum(2).max()))
    shares, source = shares[..., :most], source[..., :most]
    gain, rest = _regression(whole, axes)
    batch, components, _ = source.shape
    row, flat = torch.arange(batch)[:, None], source.flatten(1)
    # (B, J, S, ...): by component of the answer, then by source
    gain, rest, old = (
        part[row, flat].view(batch, components, most, *part.shape[2:]) for part in (gain, rest, whole.means)
    )
    means = old + la.times(gain, answer.means[:, :, None] - old[..., axes])
    covariances = rest + la.symmetrise(gain @ answer.covariances[:, :, None] @ gain.mT)
    if most == 1:
        return GaussianMixture(answer.log_weights, means[:, :, 0], covariances[:, :, 0])
    return _merged(answer.log_weights, shares, means, covariances)


def responsibilities(answer: GaussianMixture, prior: GaussianMixture) -> Tensor:
    """Responsibilities of `prior`'s components for each of `answer`'s, ``(B, J, K)``.

    They are averages over the cubature points ``m ± √d L_i`` of a component of the answer.
    """
    batch, count, size = answer.means.shape
    if prior.components == 1:
        return answer.log_weights.new_ones(batch, count, 1)
    steps = math.sqrt(size) * answer.factors().mT
    points = torch.cat([answer.means[:, :, None] + steps, answer.means[:, :, None] - steps], 2)
    shares = torch.softmax(component_log_densities(prior, prior.factors(), points.flatten(1, 2)), 1)
    return shares.view(batch, -1, count, 2 * size).mean(3).mT


def _regression(whole: GaussianMixture, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Regression on the seen coordinates: the gain ``(B, K, D, d)``, and the remaining covariance ``(B, K, D, D)``."""
    across = whole.covariances[..., axes]
    seen = across[..., axes, :]
    gain = across @ la.invert(seen, torch.finfo(seen.dtype).tiny)
    # seen coordinates follow exactly, so that rounding makes no variance negative
    gain[..., axes, :] = torch.eye(len(axes), dtype=gain.dtype)
    rest = la.symmetrise(whole.covariances - gain @ seen @ gain.mT)
    rest[..., axes, :] = 0.0
    rest[..., axes] = 0.0
    return gain, rest


def _merged(log_weights: Tensor, shares: Tensor, means: Tensor, covariances: Tensor) -> GaussianMixture:
    """Merge all sources ``(B, J, S)`` of a component into one Gaussian, where that costs little."""
    mean = (shares[..., None] * means).sum(2)
    offset = means - mean[:, :, None]
    covariance = (shares[..., None, None] * (covariances + la.outer(offset, offset))).sum(2)
    apart = torch.where(shares > 0, shares * _volume(covariances), 0.0).sum(2)
    # Runnalls' bound, as in `inference.mixtures.reduction`
    merged = log_weights.exp() * (_volume(covariance) - apart) < MERGED_BELOW
    first = torch.arange(shares.shape[2]) == 0
    logs = torch.where(merged[..., None], torch.where(first, 0.0, -math.inf), shares.log())
    chosen = merged[..., None] & first
    return GaussianMixture(
        (log_weights[..., None] + logs).flatten(1),
        torch.where(chosen[..., None], mean[:, :, None], means).flatten(1, 2),
        torch.where(chosen[..., None, None], covariance[:, :, None], covariances).flatten(1, 2),
    )


def _volume(covariance: Tensor) -> Tensor:
    """Half the log determinant."""
    return la.log_diagonal(la.cholesky(covariance, torch.finfo(covariance.dtype).tiny))


def unseen_divergence(
    posterior: GaussianMixture,
    whole: GaussianMixture,
    axes: list[int],
    points: Tensor,
    share: Tensor,
    seed: int,
) -> Tensor:
    """Divergence of the unseen coordinates given the seen ones, nats ``(B,)``, at least 0.

    By the chain rule it adds to the divergence of the seen ones. At each point the unseen coordinates are drawn once
    from the prior's components, which they follow exactly.

    Args:
        posterior: ``(B, J)`` over all ``D`` coordinates.
        whole: the prior, ``(B, K)``.
        axes: indices of the seen coordinates.
        points: of the seen coordinates, in the state's units, ``(B, P, d)``.
        share: of the exact posterior at each point, ``(B, P)``.
        seed: of the draws.
    """
    count = points.shape[1]
    normal = normal_points(count, whole.dimension - len(axes) + 1, seed).to(points)
    uniform, normal = torch.special.ndtr(normal[:, 0]), normal[:, 1:]
    there = is_native(posterior.means, whole.means, points, share)
    find = native_unseen.divergence if there else divergence_by_operators
    off: Tensor = find(posterior, whole, axes, points, share, uniform, normal)
    return torch.nan_to_num(off, nan=math.inf).clamp_min(0)


def divergence_by_operators(
    posterior: GaussianMixture,
    whole: GaussianMixture,
    axes: list[int],
    points: Tensor,
    share: Tensor,
    uniform: Tensor,
    normal: Tensor,
) -> Tensor:
    """As `unseen_divergence`, by PyTorch's operators on any device; see `native_unseen`."""
    batch, count, _ = points.shape
    rest_axes = [axis for axis in range(whole.dimension) if axis not in axes]
    seen = whole.marginal(axes)
    logs = component_log_densities(seen, seen.factors(), points)
    shares = torch.softmax(logs, 1).cumsum(1).mT.contiguous()  # (B, P, K)
    draws = uniform.expand(batch, count)[..., None].contiguous()
    source = torch.searchsorted(shares, draws).clamp(max=whole.components - 1)[..., 0]
    gain, rest = _regression(whole, axes)
    factors = la.cholesky(rest[..., rest_axes, :][..., rest_axes], torch.finfo(rest.dtype).tiny)
    row = torch.arange(batch)[:, None]
    state = whole.means[row, source] + la.times(gain[row, source], points - seen.means[row, source])
    state[..., rest_axes] += la.times(factors[row, source], normal.expand(batch, -1, -1))
    exact = whole.log_density(state) - torch.logsumexp(logs, 1)
    answered = posterior.log_density(state) - posterior.marginal(axes).log_density(points)
    return torch.where(share > 0, share * (exact - answered), 0.0).sum(1)
