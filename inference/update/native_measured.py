"""Answers in the plane measured on nodes of their posteriors, for the processor; see `inference.update.importance`.

Nodes have a share of the posterior each, so that no evidence is estimated.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
from beliefstream.inference.mixtures.native_density import BLOCK, Block, new_block, sum_plane, whiten
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.mixtures.native_fitting import Points
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Measured(NamedTuple):
    """Nodes of all problems, one after another."""

    points: Array  # (P, 2)
    shares: Array  # (P,) of the posterior
    targets: Array  # (P,) log of prior × likelihood


def prepare() -> None:
    """Compile the functions, or load them from Numba's cache."""
    place, one = np.array([[0, 1]]), np.ones(1)
    nodes, ones = Measured(np.ones((1, 2)), one, one), torch.ones(1, 1, dtype=torch.float64)
    answer = GaussianMixture(ones.log(), ones.expand(1, 1, 2), torch.eye(2).double()[None, None])
    quality(answer, nodes, place, ones[0], 1.0)
    moments(Points(nodes.points, one, np.ones((1, 3))), place)
    draw(nodes, place, 1)


def quality(
    answer: GaussianMixture, nodes: Measured, places: Places, log_evidence: Tensor, truncation: float
) -> tuple[Tensor, Tensor]:
    """Effective sample size and divergence ``(B,)``, as `importance.quality`, of answers in the plane.

    A problem's nodes are those from its first of the `places` ``(B, 2)`` to before its last.
    """
    found = np.empty((2, len(places)))
    quality_of_all(numbers_of(answer), nodes, places, array(log_evidence), math.log(truncation), found)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def moments(points: Points, places: Places) -> tuple[Tensor, Tensor]:
    """Mean ``(B, 2)`` and covariance ``(B, 2, 2)`` of each problem's points; shares add up to one."""
    mean, covariance = np.zeros((len(places), 2)), np.zeros((len(places), 2, 2))
    moments_of_all(points, places, mean, covariance)
    return torch.from_numpy(mean), torch.from_numpy(covariance)


def draw(nodes: Measured, places: Places, count: int) -> Tensor:
    """As many points ``(B, count, 2)`` of each problem, of an equal share each."""
    found = np.zeros((len(places), count, 2))
    draw_all(nodes, places, found)
    return torch.from_numpy(found)


@native
def quality_of_all(
    answer: Numbers, nodes: Measured, places: Places, evidence: Array, truncation: float, found: Array
) -> None:
    """As `quality`, into `found` ``(2, B)``; `truncation` is a logarithm."""
    count = answer.means.shape[1]
    factors, inverse = np.empty((count, 2, 2)), np.empty((count, 2, 2))
    shift, peaks, block, logs = np.empty((count, 2)), np.empty(count), new_block(count, 2), np.empty(BLOCK)
    gaussians = (factors, inverse, shift, peaks)
    for b in range(len(places)):
        found[0, b], found[1, b] = _quality(
            answer, b, nodes, places[b], evidence[b], truncation, gaussians, block, logs
        )


@borrowing
def _quality(
    answer: Numbers,
    b: int,
    nodes: Measured,
    places: Places,
    evidence: float,
    truncation: float,
    gaussians: tuple[Array, Array, Array, Array],
    block: Block,
    logs: Array,
) -> tuple[float, float]:
    """Effective sample size and divergence of one answer."""
    (factors, inverse, shift, peaks), divergence, mean = gaussians, 0.0, 0.0
    for k in range(len(peaks)):
        factorise(answer.covariances[b, k], TINY, ROUNDING, factors[k])
    whiten(answer.log_weights[b], answer.means[b], factors, inverse, shift, peaks)
    first, end = places[0], places[1]
    for start in range(first, end, BLOCK):
        some = min(BLOCK, end - start)
        for p in range(some):
            block.points[0, p], block.points[1, p] = nodes.points[start + p, 0], nodes.points[start + p, 1]
        sum_plane(inverse, shift, peaks, block, logs[:some])
        for p in range(some):
            logs[p] = nodes.targets[start + p] - logs[p] - evidence
        added = _add(nodes.shares[start : start + some], logs, truncation)
        divergence, mean = divergence + added[0], mean + added[1]
    size, bound = 1 / mean, math.exp(-2 * divergence)
    size = size if size <= bound else bound
    size = min(max(size, 0.0), 1.0) if size == size else math.nan
    return size, 0.0 if divergence < 0 else divergence


@adding
def _add(shares: Array, ratios: Array, truncation: float) -> tuple[float, float]:
    """Divergence and mean truncated ratio of some nodes, from the log ratios of the posterior to an answer."""
    divergence, mean = 0.0, 0.0
    for p in range(len(shares)):
        # the ratio may be undefined at a node without a share
        ratio = 0.0 if shares[p] == 0 else ratios[p]
        divergence += shares[p] * ratio
        ratio = truncation if ratio > truncation else ratio
        mean += shares[p] * exponential(UNDERFLOW if ratio < UNDERFLOW else ratio)
    return divergence, mean


@native
def moments_of_all(given: Points, places: Places, mean: Array, covariance: Array) -> None:
    """As `moments`, into `mean` and `covariance`."""
    for b in range(len(places)):
        first, end = places[b]
        points, shares = given.points[first:end], given.shares[first:end]
        mean[b, 0], mean[b, 1] = _mean(points, shares)
        xx, xy, yy = _scatter(points, shares, mean[b])
        covariance[b, 0, 0], covariance[b, 1, 1] = xx, yy
        covariance[b, 0, 1] = covariance[b, 1, 0] = xy


@adding
def _mean(points: Array, shares: Array) -> tuple[float, float]:
    x, y = 0.0, 0.0
    for p in range(len(shares)):
        x += shares[p] * points[p, 0]
        y += shares[p] * points[p, 1]
    return x, y


@adding
def _scatter(points: Array, shares: Array, mean: Array) -> tuple[float, float, float]:
    xx, xy, yy = 0.0, 0.0, 0.0
    for p in range(len(shares)):
        x, y = points[p, 0] - mean[0], points[p, 1] - mean[1]
        xx += shares[p] * x * x
        xy += shares[p] * x * y
        yy += shares[p] * y * y
    return xx, xy, yy


@native
def draw_all(nodes: Measured, places: Places, found: Array) -> None:
    """As `draw`, into `found` ``(B, P, 2)``."""
    count = found.shape[1]
    for b in range(len(places)):
        (place, end), whole = places[b], 0.0
        for p in range(count if place < end else 0):
            while whole < (p + 0.5) / count and place < end:
                whole += nodes.shares[place]
                place += 1
            point = nodes.points[place - 1]
            found[b, p, 0], found[b, p, 1] = point[0], point[1]
