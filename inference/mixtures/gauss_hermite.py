"""Gauss–Hermite rules for a Gaussian times a function: mass, moments and loss of shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la


@lru_cache
def rule(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Nodes ``(M, size)`` and weights ``(M,)`` of the product rule for a standard Gaussian."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / weights.sum()
    grid = np.stack(np.meshgrid(*[nodes] * size, indexing="ij"), -1).reshape(-1, size)
    product = np.prod(np.stack(np.meshgrid(*[weights] * size, indexing="ij"), -1).reshape(-1, size), -1)
    return torch.from_numpy(grid), torch.from_numpy(product)


@lru_cache
def highest(count: int, size: int) -> Tensor:
    """Orthonormal Hermite polynomials of the two highest degrees that the rule resolves, at its nodes ``(M, T)``."""
    nodes, _ = np.polynomial.hermite_e.hermegauss(count)
    scale = np.array([1 / math.sqrt(math.factorial(degree)) for degree in range(count)])
    single = np.polynomial.hermite_e.hermevander(nodes, count - 1) * scale
    product = single
    for _ in range(size - 1):
        product = np.einsum("ma,nb->mnab", product, single).reshape(len(product) * count, -1)
    degree = np.stack(np.meshgrid(*[np.arange(count)] * size, indexing="ij"), -1).reshape(-1, size)
    return torch.from_numpy(np.ascontiguousarray(product[:, degree.max(1) >= count - 2]))


@dataclass(frozen=True)
class Moments:
    """Moments of each component times the likelihood, in the frame of its factor, by one rule."""

    log_mass: Tensor  # (B, K)
    mean: Tensor  # (B, K, d)
    covariance: Tensor  # (B, K, d, d)
    shares: Tensor  # share of the component's mass in each node, (B, K, M)

    @classmethod
    def of(cls, log_values: Tensor, nodes: Tensor, weights: Tensor) -> Moments:
        """From the log of what multiplies the component at the nodes, ``(B, K, M)``."""
        logs = log_values + weights.log()
        mass = torch.logsumexp(logs, 2)
        shares = torch.softmax(logs, 2)
        mean = shares @ nodes
        products = (nodes[:, :, None] * nodes[:, None]).flatten(1)
        square = (shares @ products).view(*mean.shape, nodes.shape[1])
        return cls(mass, mean, la.symmetrise(square - la.outer(mean, mean)), shares)

    def rows(self, index: Tensor) -> Moments:
        """The moments of the problems at `index`."""
        return Moments(self.log_mass[index], self.mean[index], self.covariance[index], self.shares[index])

    def roughness(self, count: int, weights: Tensor) -> Tensor:
        """Share of the function's square in the two highest degrees that the rule resolves, ``(B, K)``.

        The Hermite coefficients fall fast for a function that is smooth on the scale of the nodes.
        """
        coefficients = self.shares @ highest(count, self.mean.shape[-1])
        return coefficients.square().sum(2) / (self.shares.square() / weights).sum(2)


def apart(first: Moments, second: Moments, log_weights: Tensor) -> Tensor:
    """Divergence in nats between the results of two rules, ``(B,)``, including the evidence."""
    one, other = (torch.log_softmax(log_weights + each.log_mass, 1) for each in (first, second))
    evidence = [torch.logsumexp(log_weights + each.log_mass, 1) for each in (first, second)]
    inverse = la.invert(first.covariance, torch.finfo(log_weights.dtype).tiny)
    factors = [la.cholesky(each.covariance, torch.finfo(log_weights.dtype).tiny) for each in (first, second)]
    offset = second.mean - first.mean
    size = offset.shape[-1]
    gaussian = la.trace(inverse @ second.covariance) - size + la.quadratic(inverse, offset, offset)
    gaussian = gaussian / 2 + la.log_diagonal(factors[0]) - la.log_diagonal(factors[1])
    share = one.exp()
    ratio = other - one
    terms = torch.where(share > 0, share * (gaussian.clamp_min(0) + torch.expm1(ratio) - ratio), 0.0)
    return terms.sum(1) + (evidence[1] - evidence[0]).square() / 2


def loss_of_shape(moments: Moments, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Approximate divergence in nats of each component from a Gaussian, ``(B, K)``, and the line that loses most.

    The divergence uses the first terms of an Edgeworth series: the squared third and fourth cumulants over 12 and 48.
    The line ``(B, K, d)``, of unit length in the frame of the component's factor, is the one that most of them lie in.
    """
    factor = la.cholesky(moments.covariance, torch.finfo(nodes.dtype).tiny)
    whitening = la.invert_lower(factor)
    white = la.times(whitening[:, :, None], nodes - moments.mean[:, :, None])  # (B, K, M, d)
    size = nodes.shape[1]
    pairs = (white[..., :, None] * white[..., None, :]).flatten(3)  # (B, K, M, d²)
    weighted = moments.shares[..., None] * pairs
    lead = (*moments.mean.shape, -1)
    third = (weighted.mT @ white).reshape(lead)
    fourth = (weighted.mT @ pairs).reshape(*moments.log_mass.shape, *[size] * 4)
    one = torch.eye(size, dtype=nodes.dtype)
    for order in ("ij,kl->ijkl", "ik,jl->ijkl", "il,jk->ijkl"):  # subtract the fourth moments of a Gaussian
        fourth = fourth - torch.einsum(order, one, one)
    fourth = fourth.reshape(lead)
    matrix = third @ third.mT / 12 + fourth @ fourth.mT / 48
    loss = torch.nan_to_num(la.trace(matrix), nan=math.inf)
    along = torch.linalg.eigh(torch.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0)).eigenvectors[..., -1]
    line = la.times(factor, along)
    return loss, line / line.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-300)
