"""The Distribution Transformer, equivariant and unrolled: prior mixture and observations in, posterior mixture out.

After Whittle, Ziomek, Rawling and Osborne, "Distribution Transformers: Fast Approximate Bayesian Inference With
On-The-Fly Prior Adaptation" (arXiv 2502.02463). The components of the prior are tokens that attend to each other and to
the observations, and decode to the components of the posterior. Here each layer also re-linearises every observation at
each token's current estimate. The network sees only invariants (`inference.network.features`), and its outputs are
gates on equivariant directions. Nothing that depends on a choice of coordinates or units enters or leaves it. So one
set of weights serves every dimension, and every sensor with a residual, a Jacobian and a curvature. All heads start
at zero: untrained, it is an iterated, outlier-aware Gauss-Newton update of each component.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import features
from beliefstream.inference.network.linearisation import log_likelihood


class Tokens(NamedTuple):
    """A prior's components, with heavy ones duplicated until there are ``K``; shapes ``(B, K, ...)``."""

    log_weights: Tensor
    means: Tensor
    covariances: Tensor
    source: Tensor  # index of the prior's component
    rank: Tensor  # place among the duplicates of that component
    copies: Tensor  # number of these duplicates
    spread: Tensor  # fixed offset ξ in the source's whitened frame; zero at rank 0


class Estimate(NamedTuple):
    """The answer: component j refines the prior's component ``tokens.source[j]``; shapes ``(B, K, ...)``."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor


@lru_cache(maxsize=64)
def spread_points(count: int, dimension: int) -> Tensor:
    """`count` fixed, evenly spread directions of length 1.2 in `dimension` coordinates, ``(count, dimension)``."""
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=7)  # type: ignore[no-untyped-call]
    sobol: Tensor = engine.draw(count + 1)[1:]
    normal = torch.erfinv(2 * sobol.clamp(1e-3, 1 - 1e-3) - 1) * math.sqrt(2)
    return 1.2 * normal / la.squared_norm(normal).sqrt()[:, None]


def duplicate_components(prior: GaussianMixture, tokens: int) -> Tokens:
    """Fill `tokens` places by repeating the components with the most weight per copy.

    Raises ValueError if the prior has more components than there are tokens.
    """
    if prior.components > tokens:
        raise ValueError(f"components: the prior has {prior.components}, more than the {tokens} tokens")
    source, rank, count = _share(prior, tokens)
    weights = prior.log_weights.exp()
    row = torch.arange(prior.batch, device=weights.device)[:, None]
    log_weights = (weights[row, source] / count).clamp_min(1e-12).log()
    points = spread_points(tokens, prior.dimension).to(weights)
    spread = points[rank] * (rank > 0)[..., None]
    return Tokens(
        log_weights, prior.means[row, source], prior.covariances[row, source], source, rank, count, spread
    )


def _share(prior: GaussianMixture, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Component of each token, place among its duplicates, and their number, each ``(B, tokens)``."""
    present, weights = prior.present, prior.log_weights.exp()
    # each further copy goes where the weight per copy is largest: the highest of all these, in order
    score = (
        torch.where(present, weights, -1.0)[:, None] / (torch.arange(1, tokens) + 0.5).to(weights)[:, None]
    )
    rank = score.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(1).view_as(score)
    more = (rank < tokens - present.sum(1)[:, None, None]) & present[:, None]
    copies = present.long() + more.sum(1)
    ends = copies.cumsum(1)
    place = torch.arange(tokens, device=weights.device).expand(prior.batch, tokens).contiguous()
    source = torch.searchsorted(ends, place, right=True).clamp(max=prior.components - 1)
    count = copies.gather(1, source)
    return source, place - (ends.gather(1, source) - count), count


class Block(nn.Module):
    """Transformer block: tokens attend to each other and to their pairs with the observations; then a feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_tokens, self.norm_pairs, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.query_key_value, self.mix_tokens = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.mix_pairs = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
        """`tokens` ``(B, K, W)``, `pairs` ``(B, K, N, W)``, `mask` ``(B, N)``."""
        batch, count, width = tokens.shape
        each = width // self.heads
        joint = self.query_key_value(self.norm_tokens(tokens)).view(batch, count, 3, self.heads, each)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.mix_tokens(mixed.transpose(1, 2).reshape(batch, count, width))
        # each token has its own pairs, so products and sums are faster than a matrix product per head
        query = self.query(self.norm_pairs(tokens)).view(batch, count, 1, self.heads, each)
        key, value = self.key_value(pairs).view(batch, count, -1, 2, self.heads, each).unbind(3)
        score = (query * key).sum(-1) / math.sqrt(each)
        attention = score.masked_fill(~mask[:, None, :, None], -1e9).softmax(2)
        seen = (attention[..., None] * value).sum(2).view(batch, count, width)
        tokens = tokens + self.mix_pairs(seen)
        transformed: Tensor = self.feed_forward(self.norm_out(tokens))
        return tokens + transformed


class Layer(nn.Module):
    """One refinement of every token: features, attention, then gates on equivariant directions."""

    PAIR_GATES, TOKEN_GATES = 2, 9

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.embed_pairs = nn.Sequential(
            nn.Linear(features.PAIR_FEATURES, width), nn.GELU(), nn.Linear(width, width)
        )
        self.embed_tokens = nn.Linear(features.TOKEN_FEATURES, width)
        self.block = Block(width, heads)
        self.token_gates = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.TOKEN_GATES))
        self.pair_hidden, self.token_hidden = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.pair_gates = nn.Linear(hidden, self.PAIR_GATES)
        for head in (self.token_gates[1], self.pair_gates):
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(
        self, state: Tensor, frame: features.Frame, observations: Observations, evidence: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Token state, step ``(B, K, d)``, change of the factor ``(B, K, d, d)`` and change of the log weight."""
        used = observations.mask[:, None].to(state.dtype)
        identity = torch.eye(frame.offsets.shape[-1], dtype=state.dtype, device=state.device)
        inlier = torch.sigmoid(frame.innovation_odds.clamp(-12, 12)) * used
        information, gradient = frame.weighted(inlier[:, :, None])
        hessian_factor = la.cholesky(information[:, :, 0] + frame.prior_precision + 1e-6 * identity)
        inverse = la.invert_from_factor(hessian_factor)
        total = gradient[:, :, 0] + frame.prior_gradient
        prior_and_fit, volume, change = evidence
        tokens = features.token_features(
            frame,
            la.times(inverse, total),
            total,
            inverse,
            (-2 * la.log_diagonal(hessian_factor), volume),
            prior_and_fit,
            change,
        )
        pairs = self.embed_pairs(features.pair_features(frame, observations, inverse))
        state = self.block(state + self.embed_tokens(tokens), pairs, observations.mask)
        pair_gates = self.pair_gates(
            functional.gelu(self.pair_hidden(pairs) + self.token_hidden(state)[:, :, None])
        )
        token_gates = self.token_gates(state)
        step, factor = _gated(frame, used, pair_gates, token_gates)
        return state, step, factor, token_gates[..., 8]


def _gated(frame: features.Frame, used: Tensor, pair: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Step of the mean and change of the factor, as weighted by the gates, both in the whitened frame."""
    offsets, prior = frame.offsets, frame.prior_precision
    identity = torch.eye(offsets.shape[-1], dtype=offsets.dtype, device=offsets.device)
    inlier = torch.sigmoid((frame.innovation_odds + 4 * pair[..., 0]).clamp(-12, 12)) * used
    weights = torch.stack([inlier, inlier * torch.exp(pair[..., 1].clamp(-4, 4))], 2)
    information, gradient = frame.weighted(weights)
    pull = torch.exp(token[..., 0].clamp(-3, 2))[..., None]
    inverse = la.invert(information[:, :, 0] + prior * pull[..., None] + 1e-6 * identity)
    total = gradient[:, :, 0] + frame.prior_gradient * pull
    newton, *bent = (torch.cat([total[:, :, None], offsets], 2) @ inverse).unbind(2)
    newton = newton / (1 + la.norm(newton, True) / 4)
    step = torch.sigmoid(token[..., 1:2] + 1.0) * newton + token[..., 2:3] * offsets[:, :, 0]
    step = step + token[..., 3:4] * bent[0] + token[..., 4:5] * bent[1]
    precision = information[:, :, 1] + prior * torch.exp(token[..., 5].clamp(-3, 3))[..., None, None]
    wide = functional.softplus(token[..., 6:8].flip(-1) - 3)[..., None]
    precision = precision + offsets.mT @ (wide * offsets)
    return step, la.inverse_cholesky(precision + 1e-5 * identity)


@dataclass(frozen=True)
class Configuration:
    """Size of the network: width of a token, layers, attention heads, width of the pair head."""

    width: int = 32
    layers: int = 4
    heads: int = 4
    hidden: int = 32


class DistributionTransformer(nn.Module):
    """Maps a prior's tokens and any set of observations to the posterior's components, in one pass."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        super().__init__()
        self.configuration = configuration or Configuration()
        size = self.configuration
        self.embed = nn.Linear(features.TOKEN_CONSTANTS, size.width)
        self.layers = nn.ModuleList(Layer(size.width, size.heads, size.hidden) for _ in range(size.layers))

    def describe(self) -> dict[str, int]:
        return {**asdict(self.configuration), "parameters": sum(p.numel() for p in self.parameters())}

    def forward(self, tokens: Tokens, observations: Observations) -> Estimate:
        """Posterior components for tokens ``(B, K)`` in coordinates where the prior has about unit spread."""
        prior_factor = la.cholesky(tokens.covariances)
        prior_inverse = la.invert_lower(prior_factor)
        used = observations.mask[:, None].to(tokens.means.dtype)
        same = (tokens.source[:, :, None] == tokens.source[:, None, :]).to(tokens.means.dtype)
        average = same / same.sum(-1, keepdim=True)
        dimension = tokens.means.shape[-1]
        state = self.embed(
            features.token_constants(tokens.log_weights, tokens.rank, tokens.copies, dimension)
        )
        means, factors, change = tokens.means, prior_factor, torch.zeros_like(tokens.log_weights)
        given = tokens.means, prior_inverse, la.times(prior_factor, tokens.spread), average
        for layer in self.layers:
            frame = features.whiten(observations, means, factors, *given)
            residuals = frame.linearisation.residuals
            fit = residuals.log_likelihood - observations.log_peaks(residuals)
            fit = (fit * used).sum(-1).clamp(min=-200)
            evidence = -0.5 * la.squared_norm(frame.prior_offset) + fit
            volume = la.log_diagonal(factors) - la.log_diagonal(prior_factor)
            state, step, factor, more = layer(state, frame, observations, (evidence, volume, change))
            means, factors, change = means + la.times(factors, step), factors @ factor, change + more
        offset = la.times(prior_inverse, tokens.means - means)
        evidence = -0.5 * la.squared_norm(offset) + log_likelihood(observations, means)
        laplace = evidence + la.log_diagonal(factors) - la.log_diagonal(prior_factor)
        relative = (laplace - laplace.amax(1, keepdim=True)).clamp(min=-40)
        return Estimate(torch.log_softmax(tokens.log_weights + relative + change, -1), means, factors)
