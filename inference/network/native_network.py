"""`DistributionTransformer` for the processor: one entity after another, in double precision, without an operator.

At these sizes PyTorch's operators cost far more than their arithmetic: the network has some 700 of them. An answer does
not depend on the rest of its batch here. It takes observations with plain noise and without functions.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import (
    Seen,
    Space as Sight,
    log_sum,
    new_space,
    relative_to,
    smallest,
    terms,
)
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    factorise,
    invert_one,
    put_matrix,
    put_vector,
)
from beliefstream.inference.network import features
from beliefstream.inference.network.native_frame import (
    Estimates,
    Frame,
    Prior,
    clamp,
    dot,
    log_diagonal,
    times,
)
from beliefstream.inference.network.native_layers import (
    Exponents,
    Network,
    Space,
    linear,
    pack,
)
from beliefstream.inference.network.native_refinement import Work, refine
from beliefstream.inference.network.native_tokens import Given, given_of
from beliefstream.inference.network.transformer import (
    DistributionTransformer,
    Estimate,
    Layer,
    Tokens,
    duplicate_components,
)

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
PAIR_FEATURES, TOKEN_FEATURES, TOKEN_GATES = (
    features.PAIR_FEATURES,
    features.TOKEN_FEATURES,
    Layer.TOKEN_GATES,
)


def prepare() -> None:
    """Compile the network, or load it from Numba's cache."""
    seen, point, factor = smallest()
    prior = GaussianMixture(point[..., 0].log(), point, factor)
    network = DistributionTransformer()
    answer(pack(network), network.configuration.heads, duplicate_components(prior, 1), seen)


def answer(network: Network, heads: int, tokens: Tokens, seen: Seen) -> Estimate:
    """As `DistributionTransformer.forward`, in the precision of the tokens."""
    given = given_of(tokens)
    found = np.empty_like(given.log_weights), np.empty_like(given.means), np.empty_like(given.covariances)
    _answer_all(network, heads, given, seen, found)
    log_weights, means, factors = (torch.from_numpy(part).to(tokens.means.dtype) for part in found)
    return Estimate(log_weights, means, factors)


@native
def _answer_all(
    network: Network, heads: int, given: Given, seen: Seen, found: tuple[Array, Array, Array]
) -> None:
    batch, count, size = given.means.shape
    observations, width = seen.kind.shape[1], network.embed.bias.shape[1]
    frame, work = _new_frame(count, observations, size), _new_work(network, count, observations, size)
    space, sight = _new_space(network, count, observations, width), new_space(seen)
    for b in range(batch):
        for k in range(count):
            factorise(given.covariances[b, k], LEAST_PIVOT, ROUNDING, work.prior_factors[k])
            invert_one(work.prior_factors[k], work.prior_inverses[k])
            _embed(network, given, b, k, work)
            put_vector(found[1][b, k], given.means[b, k])
            put_matrix(found[2][b, k], work.prior_factors[k])
            work.change[k] = 0.0
        parts = given.log_weights[b], given.means[b], given.source[b], given.spread[b]
        prior = Prior(parts[0], parts[1], parts[2], parts[3], work.prior_factors, work.prior_inverses)
        now = Estimates(found[1][b], found[2][b], work.change, work.states)
        for layer in range(len(network.mix_pairs.weight)):
            refine(network, layer, heads, prior, now, seen, b, frame, work, space, sight)
        _weigh(prior, now, seen, b, sight, work, found[0][b])


@inner
def _new_frame(count: int, observations: int, size: int) -> Frame:
    pairs, tokens = np.zeros((6, count, observations)), np.zeros((4, count, size))
    wide, square = np.zeros((2, count, observations, size)), np.zeros((2, count, observations, size, size))
    each = np.zeros((2, count))
    return Frame(
        wide[0], wide[1], square[0], square[1],
        pairs[0], pairs[1], pairs[2], pairs[3], pairs[4], pairs[5],
        tokens[0], tokens[1], tokens[2], tokens[3],
        np.zeros((count, size, size)), each[0], each[1], np.zeros(observations),
    )  # fmt: skip


@inner
def _new_work(network: Network, count: int, observations: int, size: int) -> Work:
    width, hidden = network.embed.bias.shape[1], network.token_hidden.bias.shape[1]
    priors = np.zeros((2, count, size, size))
    return Work(
        priors[0],
        priors[1],
        np.zeros((count, width)),
        np.zeros(count),
        np.zeros((count, observations, width)),
        np.zeros(hidden),
        np.zeros(hidden),
        np.zeros((observations, 2)),
        np.zeros(TOKEN_GATES),
        np.zeros(PAIR_FEATURES),
        np.zeros(TOKEN_FEATURES),
        np.zeros(network.embed.weight.shape[1]),
        np.zeros(observations),
        np.zeros((5, size, size)),
        np.zeros((5, size)),
    )


@inner
def _new_space(network: Network, count: int, observations: int, width: int) -> Space:
    vectors, wide = np.zeros((4, width)), np.zeros((2, network.feed.bias.shape[1]))
    activation = Exponents(wide[0], wide[1])
    return Space(
        vectors[0],
        vectors[1],
        vectors[2],
        vectors[3],
        np.zeros(network.feed.bias.shape[1]),
        activation,
        np.zeros(max(count, observations)),
        np.zeros((count, 3 * width)),
        np.zeros((observations, 2 * width)),
    )


@borrowing
def _embed(network: Network, given: Given, b: int, k: int, work: Work) -> None:
    """As `features.token_constants`, embedded."""
    rank, copies = given.rank[b, k], given.copies[b, k]
    work.constants[0] = given.log_weights[b, k] * 0.3
    work.constants[1] = (rank + 0.5) / copies
    work.constants[2], work.constants[3] = copies * 0.2, rank * 0.2
    work.constants[4] = 1.0 if rank == 0 else 0.0
    work.constants[5] = 1.0 if copies > 1 else 0.0
    work.constants[6] = 0.3 * given.means.shape[2]
    linear(network.embed, 0, work.constants, work.states[k])


@borrowing
def _weigh(prior: Prior, now: Estimates, seen: Seen, b: int, sight: Sight, work: Work, found: Array) -> None:
    """Log weights by the evidence of each token (Laplace), with what the layers have changed."""
    offset, change, highest = work.vectors[0], work.vectors[1], -math.inf
    for k in range(len(found)):
        for i in range(len(offset)):
            change[i] = prior.means[k, i] - now.means[k, i]
        times(prior.inverses[k], change, offset)
        evidence = -0.5 * dot(offset, offset)
        for n in range(len(work.weight)):
            if seen.mask[b, n]:
                distance = relative_to(seen, b, n, now.means[k], sight.relative)
                _, _, inlier, outlier = terms(seen, b, n, now.means[k], sight.relative, distance)
                evidence += log_sum(inlier, outlier)
        found[k] = evidence + log_diagonal(now.factors[k]) - log_diagonal(prior.factors[k])
        highest = max(highest, found[k])
    top, total = -math.inf, 0.0
    for k in range(len(found)):
        found[k] = prior.log_weights[k] + clamp(found[k] - highest, -40.0, math.inf) + now.change[k]
        top = max(top, found[k])
    for k in range(len(found)):
        total += math.exp(found[k] - top)
    for k in range(len(found)):
        found[k] -= top + math.log(total)
