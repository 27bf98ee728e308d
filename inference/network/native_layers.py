"""Layers of the network for the processor: one vector after another, in double precision."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from beliefstream.inference.mixtures.native import borrowing, fusing
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.network.transformer import DistributionTransformer, Layer

Array = NDArray[np.float64]
SMALLEST_VARIANCE = 1e-5  # as of `torch.nn.LayerNorm`
SQRT_HALF = math.sqrt(0.5)


def _tail_coefficients(degree: int = 20) -> tuple[float, ...]:
    """Coefficients, the highest first, of ``log(erfc(z) exp(z²) / t)`` as a polynomial in ``2 t - 1``."""
    nodes = np.polynomial.chebyshev.chebpts1(degree + 1)
    t = (nodes + 1) / 2
    scaled = torch.special.erfcx(torch.from_numpy(2 / t - 2)).numpy()
    fitted = np.polynomial.chebyshev.chebfit(nodes, np.log(scaled / t), degree)
    return tuple(np.polynomial.chebyshev.cheb2poly(fitted)[::-1].tolist())


TAIL = _tail_coefficients()
# the compiler unrolls and vectorises short sums only
HIGH_TERMS, LOW_TERMS = TAIL[:11], TAIL[11:]


class Weights(NamedTuple):
    """Weights of one kind of module in every layer of the network, ``L`` of them."""

    weight: Array  # (L, inputs, outputs), or (L, W) of a normalisation
    bias: Array  # (L, outputs)


class Network(NamedTuple):
    """All weights of a `DistributionTransformer`, by the names of its modules."""

    embed: Weights
    embed_pairs: Weights
    embed_pairs_again: Weights
    embed_tokens: Weights
    norm_tokens: Weights
    norm_pairs: Weights
    norm_out: Weights
    query_key_value: Weights
    mix_tokens: Weights
    query: Weights
    key_value: Weights
    mix_pairs: Weights
    feed: Weights
    forward: Weights
    norm_gates: Weights
    token_gates: Weights
    pair_hidden: Weights
    token_hidden: Weights
    pair_gates: Weights


def pack(network: DistributionTransformer) -> Network:
    """The weights of a network, as native functions take them."""
    layers = [layer for layer in network.layers if isinstance(layer, Layer)]

    def stacked(*path: str | int) -> Weights:
        return _stacked([_module(layer, path) for layer in layers])

    return Network(
        embed=_stacked([network.embed]),
        embed_pairs=stacked("embed_pairs", 0),
        embed_pairs_again=stacked("embed_pairs", 2),
        embed_tokens=stacked("embed_tokens"),
        norm_tokens=stacked("block", "norm_tokens"),
        norm_pairs=stacked("block", "norm_pairs"),
        norm_out=stacked("block", "norm_out"),
        query_key_value=stacked("block", "query_key_value"),
        mix_tokens=stacked("block", "mix_tokens"),
        query=stacked("block", "query"),
        key_value=stacked("block", "key_value"),
        mix_pairs=stacked("block", "mix_pairs"),
        feed=stacked("block", "feed_forward", 0),
        forward=stacked("block", "feed_forward", 2),
        norm_gates=stacked("token_gates", 0),
        token_gates=stacked("token_gates", 1),
        pair_hidden=stacked("pair_hidden"),
        token_hidden=stacked("token_hidden"),
        pair_gates=stacked("pair_gates"),
    )


def _module(layer: Layer, path: tuple[str | int, ...]) -> nn.Module:
    return layer.get_submodule(".".join(map(str, path)))


def _stacked(modules: list[nn.Module]) -> Weights:
    """Weights with the outputs last, so that loops over them are vectorised."""
    weights = np.stack([module.weight.detach().double().cpu().numpy().T for module in modules])  # type: ignore[operator]
    biases = np.stack([module.bias.detach().double().cpu().numpy() for module in modules])  # type: ignore[operator]
    return Weights(np.ascontiguousarray(weights), np.ascontiguousarray(biases))


@fusing
def linear(weights: Weights, layer: int, given: Array, found: Array) -> None:
    """``W x + b``."""
    weight, bias, together = weights.weight[layer], weights.bias[layer], len(given) // 4
    for o in range(len(found)):
        found[o] = bias[o]
    for block in range(together):  # four inputs at once, so that the sums stay longer in registers
        i = 4 * block
        a, b, c, d = given[i], given[i + 1], given[i + 2], given[i + 3]
        first, second, third, fourth = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for o in range(len(found)):
            found[o] += a * first[o] + b * second[o] + c * third[o] + d * fourth[o]
    for i in range(4 * together, len(given)):
        value, row = given[i], weight[i]
        for o in range(len(found)):
            found[o] += value * row[o]


@borrowing
def normalise(weights: Weights, layer: int, given: Array, found: Array) -> None:
    """Layer normalisation."""
    weight, bias, width = weights.weight[layer], weights.bias[layer], len(given)
    mean = variance = 0.0
    for i in range(width):
        mean += given[i]
    mean /= width
    for i in range(width):
        variance += (given[i] - mean) * (given[i] - mean)
    scale = 1 / math.sqrt(variance / width + SMALLEST_VARIANCE)
    for i in range(width):
        found[i] = (given[i] - mean) * scale * weight[i] + bias[i]


@fusing
def activate(values: Array, space: Exponents) -> None:
    """Gaussian error linear unit, in place.

    The complementary error function is ``t exp(P(t) - z²)`` with ``t = 2 / (2 + z)`` and a polynomial P.
    """
    for i in range(len(values)):
        space.place[i] = 4 / (2 + abs(values[i]) * SQRT_HALF) - 1
    for i in range(len(values)):
        logs = HIGH_TERMS[0]
        for coefficient in HIGH_TERMS[1:]:
            logs = logs * space.place[i] + coefficient
        space.logs[i] = logs
    for i in range(len(values)):
        logs = space.logs[i]
        for coefficient in LOW_TERMS:
            logs = logs * space.place[i] + coefficient
        logs -= 0.5 * values[i] * values[i]
        space.logs[i] = UNDERFLOW if logs < UNDERFLOW else logs
    for i in range(len(values)):
        tail = 0.25 * (space.place[i] + 1) * exponential(space.logs[i])
        values[i] *= tail if values[i] < 0 else 1 - tail


@borrowing
def add(values: Array, more: Array) -> None:
    for i in range(len(values)):
        values[i] += more[i]


@borrowing
def soft_maximum(scores: Array, count: int) -> None:
    """Softmax of the first `count`, in place."""
    highest, total = scores[0], 0.0
    for i in range(count):
        highest = max(highest, scores[i])
    for i in range(count):
        logs = scores[i] - highest
        scores[i] = exponential(UNDERFLOW if logs < UNDERFLOW else logs)
        total += scores[i]
    for i in range(count):
        scores[i] /= total


class Exponents(NamedTuple):
    """Space for `activate`."""

    place: Array
    logs: Array


class Space(NamedTuple):
    """Space for the vectors of one token; ``W`` is the width of the network."""

    given: Array  # (W,), as the next three
    query: Array
    seen: Array
    mixed: Array
    wide: Array  # (4 W,)
    activation: Exponents  # (4 W,)
    scores: Array  # (most tokens or observations,)
    joint: Array  # (K, 3 W): query, key and value of every token
    keys: Array  # (N, 2 W): key and value of every observation


@borrowing
def mix_tokens(network: Network, layer: int, heads: int, states: Array, space: Space) -> None:
    """Let tokens ``(K, W)`` attend to each other."""
    count, width = states.shape
    each = width // heads
    for k in range(count):
        normalise(network.norm_tokens, layer, states[k], space.given)
        linear(network.query_key_value, layer, space.given, space.joint[k])
    for k in range(count):
        for i in range(width):
            space.seen[i] = 0.0
        for start in range(0, width, each):
            for other in range(count):
                total = 0.0
                for i in range(start, start + each):
                    total += space.joint[k, i] * space.joint[other, width + i]
                space.scores[other] = total / math.sqrt(each)
            soft_maximum(space.scores, count)
            for other in range(count):
                for i in range(start, start + each):
                    space.seen[i] += space.scores[other] * space.joint[other, 2 * width + i]
        linear(network.mix_tokens, layer, space.seen, space.mixed)
        add(states[k], space.mixed)


@borrowing
def mix_pairs(
    network: Network,
    layer: int,
    heads: int,
    state: Array,
    pairs: Array,
    mask: NDArray[np.bool_],
    space: Space,
) -> None:
    """Let one token ``(W,)`` attend to its pairs with the observations ``(N, W)``."""
    width = len(state)
    each, used = width // heads, 0
    normalise(network.norm_pairs, layer, state, space.given)
    linear(network.query, layer, space.given, space.query)
    for n in range(len(pairs)):
        if mask[n]:
            linear(network.key_value, layer, pairs[n], space.keys[used])
            used += 1
    for i in range(width):
        space.seen[i] = 0.0
    for start in range(0, width, each):
        for n in range(used):
            total = 0.0
            for i in range(start, start + each):
                total += space.query[i] * space.keys[n, i]
            space.scores[n] = total / math.sqrt(each)
        soft_maximum(space.scores, used)
        for n in range(used):
            for i in range(start, start + each):
                space.seen[i] += space.scores[n] * space.keys[n, width + i]
    linear(network.mix_pairs, layer, space.seen, space.mixed)
    add(state, space.mixed)
    normalise(network.norm_out, layer, state, space.given)
    linear(network.feed, layer, space.given, space.wide)
    activate(space.wide, space.activation)
    linear(network.forward, layer, space.wide, space.mixed)
    add(state, space.mixed)
