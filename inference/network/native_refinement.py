"""One layer of the network for the processor: it moves the tokens of one entity, as `transformer.Layer`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen, Space as Sight
from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    factorise,
    invert_one,
    invert_product,
)
from beliefstream.inference.network.native_frame import (
    Estimates,
    Frame,
    Prior,
    Square,
    clamp,
    fill_pair,
    fill_token,
    log_diagonal,
    norm,
    times,
    whiten,
)
from beliefstream.inference.network.native_layers import (
    Network,
    Space,
    activate,
    add,
    linear,
    mix_pairs,
    mix_tokens,
    normalise,
)

Array = NDArray[np.float64]


class Work(NamedTuple):
    """Space for one entity."""

    prior_factors: Array  # (K, d, d), as the next
    prior_inverses: Array
    states: Array  # (K, W)
    change: Array  # (K,)
    pairs: Array  # (K, N, W)
    hidden: Array  # (H,), as the next
    token_hidden: Array
    pair_gates: Array  # (N, 2)
    token_gates: Array
    pair_features: Array
    token_features: Array
    constants: Array
    weight: Array  # (N,)
    matrices: Array  # (5, d, d)
    vectors: Array  # (5, d)


@borrowing
def refine(
    network: Network,
    layer: int,
    heads: int,
    prior: Prior,
    now: Estimates,
    seen: Seen,
    b: int,
    frame: Frame,
    work: Work,
    space: Space,
    sight: Sight,
) -> None:
    """One layer: it moves means, factors and log weights."""
    count, observations = frame.signed.shape
    square = Square(work.matrices[0], work.matrices[1], work.vectors[0], work.vectors[1])
    whiten(prior, now, seen, b, frame, sight, square)
    for k in range(count):
        _look(network, layer, now, seen, b, k, frame, work, space)
    mix_tokens(network, layer, heads, now.states, space)
    for k in range(count):
        state = now.states[k]
        mix_pairs(network, layer, heads, state, work.pairs[k], seen.mask[b], space)
        normalise(network.norm_gates, layer, state, space.given)
        linear(network.token_gates, layer, space.given, work.token_gates)
        linear(network.token_hidden, layer, state, work.token_hidden)
        for n in range(observations):
            if seen.mask[b, n]:
                linear(network.pair_hidden, layer, work.pairs[k, n], work.hidden)
                add(work.hidden, work.token_hidden)
                activate(work.hidden, space.activation)
                linear(network.pair_gates, layer, work.hidden, work.pair_gates[n])
        _step(now, seen.mask[b], k, frame, work)


@borrowing
def _look(
    network: Network,
    layer: int,
    now: Estimates,
    seen: Seen,
    b: int,
    k: int,
    frame: Frame,
    work: Work,
    space: Space,
) -> None:
    """Embed the features of one token, and of its pairs with the observations."""
    hessian, factor, lower, inverse = work.matrices[0], work.matrices[1], work.matrices[2], work.matrices[3]
    total, step = work.vectors[0], work.vectors[1]
    for n in range(len(work.weight)):
        work.weight[n] = _sigmoid(clamp(frame.innovation[k, n], -12.0, 12.0))
    _hessian(seen.mask[b], k, frame, work.weight, 1.0, 1e-6, hessian, total)
    factorise(hessian, LEAST_PIVOT, ROUNDING, factor)
    invert_product(factor, lower, inverse)
    times(inverse, total, step)
    fill_token(frame, k, step, total, inverse, -2 * log_diagonal(factor), now.change[k], work.token_features)
    linear(network.embed_tokens, layer, work.token_features, space.given)
    add(now.states[k], space.given)
    for n in range(len(work.weight)):
        if seen.mask[b, n]:
            fill_pair(seen, b, k, n, inverse, frame, work.pair_features)
            linear(network.embed_pairs, layer, work.pair_features, space.given)
            activate(space.given, space.activation)
            linear(network.embed_pairs_again, layer, space.given, work.pairs[k, n])


@borrowing
def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@borrowing
def _soft_plus(value: float) -> float:
    return value if value > 20 else math.log1p(math.exp(value))


@borrowing
def _hessian(
    mask: NDArray[np.bool_],
    k: int,
    frame: Frame,
    weight: Array,
    pull: float,
    least: float,
    hessian: Array,
    total: Array,
) -> None:
    """Weighted sum of the information of observations and prior, and of their gradients."""
    size = len(total)
    for i in range(size):
        total[i] = pull * frame.prior_gradient[k, i]
        for j in range(size):
            hessian[i, j] = pull * frame.prior_precision[k, i, j]
        hessian[i, i] += least
    for n in range(len(weight)):
        if mask[n]:
            for i in range(size):
                total[i] += weight[n] * frame.gradient[k, n, i]
                for j in range(size):
                    hessian[i, j] += weight[n] * frame.information[k, n, i, j]


@borrowing
def _step(now: Estimates, mask: NDArray[np.bool_], k: int, frame: Frame, work: Work) -> None:
    """As `transformer._gated`; moves one token."""
    token, pair, weight, size = work.token_gates, work.pair_gates, work.weight, now.means.shape[1]
    hessian, factor, lower, inverse = work.matrices[0], work.matrices[1], work.matrices[2], work.matrices[3]
    total, newton, apart, among = work.vectors[0], work.vectors[1], work.vectors[2], work.vectors[3]
    for n in range(len(weight)):
        weight[n] = _sigmoid(clamp(frame.innovation[k, n] + 4 * pair[n, 0], -12.0, 12.0))
    pull = math.exp(clamp(token[0], -3.0, 2.0))
    _hessian(mask, k, frame, weight, pull, 1e-6, hessian, total)
    factorise(hessian, LEAST_PIVOT, ROUNDING, factor)
    invert_product(factor, lower, inverse)
    spread, siblings, step = frame.spread[k], frame.siblings[k], work.vectors[4]
    times(inverse, total, newton)
    times(inverse, spread, apart)
    times(inverse, siblings, among)
    length, share = norm(newton), _sigmoid(token[1] + 1.0)
    for i in range(size):
        step[i] = share * newton[i] / (1 + length / 4) + token[2] * spread[i]
        step[i] += token[3] * apart[i] + token[4] * among[i]
    for n in range(len(weight)):
        weight[n] *= math.exp(clamp(pair[n, 1], -4.0, 4.0))
    _hessian(mask, k, frame, weight, math.exp(clamp(token[5], -3.0, 3.0)), 1e-5, hessian, total)
    beside, own = _soft_plus(token[6] - 3), _soft_plus(token[7] - 3)
    for i in range(size):
        for j in range(size):
            hessian[i, j] += beside * siblings[i] * siblings[j] + own * spread[i] * spread[j]
    _inverse_factor(hessian, lower, factor, inverse)
    _move(now, k, step, factor, lower, total)
    now.change[k] += token[8]


@borrowing
def _inverse_factor(precision: Array, lower: Array, factor: Array, flipped: Array) -> None:
    """Fill `factor` as `linear_algebra.inverse_cholesky`; the others are space to work in."""
    last = len(precision) - 1
    for i in range(last + 1):
        for j in range(last + 1):
            flipped[i, j] = precision[last - i, last - j]
    factorise(flipped, LEAST_PIVOT, ROUNDING, factor)
    invert_one(factor, lower)
    for i in range(last + 1):
        for j in range(last + 1):
            factor[i, j] = lower[last - j, last - i]


@borrowing
def _move(now: Estimates, k: int, step: Array, factor: Array, product: Array, moved: Array) -> None:
    """Move a mean by a step, and multiply its factor, both in the token's frame."""
    size = len(step)
    times(now.factors[k], step, moved)
    for i in range(size):
        now.means[k, i] += moved[i]
        for j in range(size):
            product[i, j] = 0.0
            for m in range(size):
                product[i, j] += now.factors[k, i, m] * factor[m, j]
    for i in range(size):
        for j in range(size):
            now.factors[k, i, j] = product[i, j]
