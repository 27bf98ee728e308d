"""Exact posteriors on cells that are split where the mass is, in the coordinates that sensors touch.

Cells are boxes in coordinates where the prior has unit covariance. A cell is *resolved* where the log of prior ×
likelihood changes little across it; unresolved ones that may hold mass are halved along the axis in which they change
most. How much a cell may hold is judged by the density widened by the cell (a narrow ridge inside it is then seen) and
by the density tempered until cells look smooth (a compromise between sensors that contradict each other is then kept).
Where too many cells are unresolved, as in thin rings and in three or more coordinates, a part of them is drawn and
weighted so that every integral stays unbiased (P. Fearnhead, P. Clifford, "On-line inference for hidden Markov models
via particle filters", J. Royal Statistical Society B 65(4), 2003): the cells are then a sample, and two independent
ones give its error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inference.evaluation.adversarial.likelihood import LOG_TWO_PI, Array, Seen, wrapped

CHANGE = 1.2  # nats across a cell that is resolved
_NEGLIGIBLE = 1e-8  # share of the mass below which a cell is dropped
_FIRST = {1: 400, 2: 44, 3: 14, 4: 8}  # cells along an axis within `_INNER` standard deviations
_INNER, _OUTER = 6.0, (9.0, 14.0, 24.0, 45.0)
_MOST_PASSES = 90
_WIDER = 1.5  # safety of the widening


@dataclass(frozen=True)
class Target:
    """Prior and readings over the touched coordinates ``d``: weights ``(K,)``, means ``(K, d)``, covariances."""

    weights: Array
    means: Array
    covariances: Array
    sensors: list[Seen]

    def frame(self) -> tuple[Array, Array]:
        """Mean ``(d,)`` and a factor ``(d, d)`` of the covariance of the prior as a whole."""
        mean = self.weights @ self.means
        offset = self.means - mean
        covariance = (
            np.einsum("k,kij->ij", self.weights, self.covariances) + (self.weights * offset.T) @ offset
        )
        return mean, np.linalg.cholesky(covariance)

    def log_joint(self, points: Array) -> Array:
        """Log of prior × likelihood at `points` ``(P, d)``."""
        total = mixture_log_density(self.weights, self.means, self.covariances, points)
        for sensor in self.sensors:
            total = total + sensor.log_likelihood(sensor.predictions(points))
        return total


def mixture_log_density(
    weights: Array, means: Array, covariances: Array, points: Array, extra: Array | None = None
) -> Array:
    """Of a Gaussian mixture at `points` ``(P, d)``; `extra` ``(P, d, d)`` maps a unit cube's offsets to points'."""
    return _logsumexp(component_logs(weights, means, covariances, points, extra))


def component_logs(
    weights: Array, means: Array, covariances: Array, points: Array, extra: Array | None = None
) -> Array:
    """Log of weight × density of each component, ``(P, K)``; widened row by row by `extra`."""
    inverse = np.linalg.inv(np.linalg.cholesky(covariances))
    size = means.shape[1]
    with np.errstate(divide="ignore"):
        constant = (
            np.log(weights) + np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum(1) - 0.5 * size * LOG_TWO_PI
        )
    found = np.empty((len(points), len(weights)))
    for k in range(len(weights)):
        y = (points - means[k]) @ inverse[k].T
        if extra is None:
            found[:, k] = constant[k] - 0.5 * (y * y).sum(1)
        else:
            variance = 1 + ((inverse[k] @ extra) ** 2).sum(2)
            found[:, k] = constant[k] - 0.5 * (y * y / variance + np.log(variance)).sum(1)
    return found


def _logsumexp(logs: Array) -> Array:
    top = logs.max(-1)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        found: Array = np.log(np.exp(logs - top[..., None]).sum(-1)) + top
    return found


@dataclass
class _Cells:
    """Boxes ``(n, d)`` of the prior's frame, what each stands for, and what is known of it."""

    centre: Array
    half: Array
    log_weight: Array  # of one over the chance that it was kept
    log_f: Array  # at the centre
    log_mean: Array  # of the average over the box, by Simpson's rule along each axis
    log_guide: Array  # widened
    change: Array  # (n, d) nats across the box along each axis
    worth: Array  # (n, d) how much a split along the axis would tell
    random: Array  # bool: whether it descends from one that was drawn

    def take(self, index: Array) -> _Cells:
        return _Cells(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @staticmethod
    def join(parts: list[_Cells]) -> _Cells:
        return _Cells(
            *(np.concatenate([getattr(p, name) for p in parts]) for name in _Cells.__dataclass_fields__)
        )

    @property
    def log_volume(self) -> Array:
        found: Array = np.log(2 * self.half).sum(1)
        return found


@dataclass(frozen=True)
class Posterior:
    """Weighted points ``(P, d)`` of one run, shares ``(P,)``, log density up to the evidence."""

    points: Array
    share: Array
    log_joint: Array
    log_evidence: float
    log_error: float  # of the evidence, by the rule's own estimate
    drawn: float  # share of the mass in cells that were drawn
    passes: int


def posterior(target: Target, most: int, generator: np.random.Generator, change: float = CHANGE) -> Posterior:
    """The exact posterior of one problem; `most` cells may be unresolved at a time."""
    mean, factor = target.frame()
    scale = float(np.log(np.diag(factor)).sum())
    cells = _evaluated(target, mean, factor, *_first(target, mean, factor, generator))
    resolved: list[_Cells] = []
    passes = 0
    for passes in range(_MOST_PASSES):
        cells, done = _sorted(cells, resolved, change)
        resolved = [done]
        if not len(cells.centre):
            break
        cells = _kept(cells, done, most, generator)
        cells = _evaluated(target, mean, factor, *_split(cells))
    whole = _Cells.join([*resolved, cells])
    mass = whole.log_weight + whole.log_volume + whole.log_mean
    total = float(_logsumexp(mass))
    share = np.exp(mass - total)
    crude = whole.log_weight + whole.log_volume + whole.log_f
    error = float(np.abs(np.exp(mass - total) - np.exp(crude - total)).sum()) * 0.02
    unresolved = float(np.exp(mass[len(resolved[0].centre) :] - total).sum()) if resolved else 1.0
    kept = share > 0
    return Posterior(
        mean + whole.centre[kept] @ factor.T,
        share[kept],
        whole.log_f[kept],
        total + scale,
        error + 0.3 * unresolved,
        float(share[whole.random].sum()),
        passes,
    )


def _first(
    target: Target, mean: Array, factor: Array, generator: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Cells that cover the prior's frame far out, fine in its middle; shifted at random."""
    size = len(mean)
    inverse = np.linalg.inv(factor)
    centres = (target.means - mean) @ inverse.T
    spread = np.sqrt(np.einsum("ij,kjl,il->ki", inverse, target.covariances, inverse))
    edges = []
    for axis in range(size):
        low, high = (centres - _INNER * spread)[:, axis].min(), (centres + _INNER * spread)[:, axis].max()
        step = (high - low) / _FIRST[size]
        inner = low + step * (np.arange(_FIRST[size] + 2) - generator.random())
        outer = np.array([far - _INNER for far in _OUTER])
        edges.append(np.concatenate([inner[0] - outer[::-1], inner, inner[-1] + outer]))
    middle = np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij")
    half = np.meshgrid(*[(e[1:] - e[:-1]) / 2 for e in edges], indexing="ij")
    centre = np.stack(middle, -1).reshape(-1, size)
    return centre, np.stack(half, -1).reshape(-1, size), np.zeros(len(centre)), np.zeros(len(centre), bool)


def _evaluated(
    target: Target, mean: Array, factor: Array, centre: Array, half: Array, log_weight: Array, random: Array
) -> _Cells:
    """The density at the centre and at both ends of every axis of each box."""
    count, size = centre.shape
    ends = np.repeat(centre[:, None], 2 * size + 1, 1)
    for axis in range(size):
        ends[:, 2 * axis + 1, axis] -= half[:, axis]
        ends[:, 2 * axis + 2, axis] += half[:, axis]
    flat = mean + ends.reshape(-1, size) @ factor.T
    log = mixture_log_density(target.weights, target.means, target.covariances, flat)
    sides = factor[None] * half[:, None] * (2 * _WIDER / math.sqrt(12))
    guide = mixture_log_density(
        target.weights, target.means, target.covariances, flat[:: 2 * size + 1], sides
    )
    worth = np.zeros((count, size))
    for sensor in target.sensors:
        h = sensor.predictions(flat)
        log = log + sensor.log_likelihood(h)
        around = h.reshape(count, 2 * size + 1, -1)
        middle = np.where(np.isnan(around[:, 0]), _mean_of_known(around), around[:, 0])
        offset = around[:, 1:] - middle[:, None]
        offset = np.abs(wrapped(offset) if sensor.is_angle else offset)
        offset = np.nan_to_num(offset).reshape(count, size, 2, -1).sum(2)  # (n, d, m)
        spread = _WIDER * np.sqrt((offset**2).sum(1) / 12)
        likely = sensor.log_likelihood(middle, spread)
        guide = guide + likely
        own = np.sqrt(np.diagonal(sensor.covariances[0])) / abs(sensor.sensor.scale)
        told = np.abs(likely - log_at_centre(sensor, middle))
        worth += ((offset / own) ** 2).sum(2) * np.minimum(told, 1.0)[:, None]
    log = log.reshape(count, 2 * size + 1)
    with np.errstate(invalid="ignore", over="ignore"):
        ratio = np.exp(np.minimum(log[:, 1:] - log[:, :1], 50.0))
        simpson = 1 + (np.nan_to_num(ratio, nan=1.0).reshape(count, size, 2).sum(2) - 2).sum(1) / 6
        change = np.abs(log[:, 1:] - log[:, :1]).reshape(count, size, 2).sum(2)
    change = np.where(np.isnan(change), 0.0, np.minimum(change, 1e6))
    found = log[:, 0] + np.log(np.maximum(simpson, 1e-3))
    return _Cells(centre, half, log_weight, log[:, 0], found, guide, change, worth + change**2, random)


def log_at_centre(sensor: Seen, predictions: Array) -> Array:
    """Its log likelihood, finite for the comparison with the widened one."""
    return np.maximum(sensor.log_likelihood(predictions), -1e12)


def _mean_of_known(around: Array) -> Array:
    known = ~np.isnan(around)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, around, 0.0).sum(1) / np.maximum(count, 1), np.nan)


def _sorted(cells: _Cells, resolved: list[_Cells], change: float) -> tuple[_Cells, _Cells]:
    """Cells to be split, and those that are resolved; what holds no mass is dropped."""
    with np.errstate(invalid="ignore"):
        narrow = np.abs(cells.log_guide - cells.log_mean) < 0.5 * change
    fine = (cells.change.max(1) < change) & narrow
    coarse = cells.take(~fine)
    done = _Cells.join([*resolved, cells.take(fine)])
    share_coarse, share_done = _shares(coarse, done)
    return coarse.take(share_coarse > _NEGLIGIBLE), done.take(share_done > 1e-3 * _NEGLIGIBLE)


def _shares(cells: _Cells, done: _Cells) -> tuple[Array, Array]:
    """Upper estimates of the share of the mass in each unresolved and in each resolved cell."""
    finished = done.log_weight + done.log_volume + done.log_mean
    base = cells.log_weight + cells.log_volume
    guide = base + np.maximum(cells.log_guide, cells.log_mean)
    total = _logsumexp(np.concatenate([guide, finished]))
    share = np.exp(guide - total)
    if len(base):
        tempered = _tempered(cells, base)
        share = np.maximum(share, tempered)
    return share, np.exp(finished - total)


def _tempered(cells: _Cells, base: Array) -> Array:
    """Shares under the density to the largest power that makes cells look smooth where its mass is."""
    finite = np.isfinite(cells.log_f)
    if not finite.any():
        return np.zeros(len(base))
    log = np.where(finite, cells.log_f, -1e300)
    width = cells.change.max(1)

    def shares(power: float) -> Array:
        mass = np.where(finite, base + power * (log - log[finite].max()), -math.inf)
        return np.exp(mass - _logsumexp(mass))

    low, high = -40.0, 0.0
    for _ in range(14):
        middle = (low + high) / 2
        power = math.exp(middle)
        if power * float((shares(power) * width).sum()) < 2.0:
            low = middle
        else:
            high = middle
    return shares(math.exp(low))


def _kept(cells: _Cells, done: _Cells, most: int, generator: np.random.Generator) -> _Cells:
    """All cells, or about `most` of them: light ones are drawn, and weigh more for it."""
    count = len(cells.centre)
    if count <= most:
        return cells
    share, _ = _shares(cells, done)
    # the threshold c with sum of min(share / c, 1) = most
    order = np.sort(share)
    below = np.cumsum(order)
    above = count - 1 - np.arange(count)
    expected = below / np.maximum(order, 1e-300) + above
    place = int(np.searchsorted(-expected, -most))
    place = min(max(place, 1), count - 1)
    threshold = below[place - 1] / max(most - (count - place), 1)
    chance = np.minimum(share / threshold, 1.0)
    ticks = np.floor(np.cumsum(chance) + generator.random())
    drawn = np.diff(ticks, prepend=0.0) >= 1
    drawn |= chance >= 1
    found = cells.take(drawn)
    found.log_weight = found.log_weight - np.log(chance[drawn])
    found.random = found.random | (chance[drawn] < 1)
    return found


def _split(cells: _Cells) -> tuple[Array, Array, Array, Array]:
    """Both halves of each cell, along the axis where a split tells most."""
    row = np.arange(len(cells.centre))
    axis = cells.worth.argmax(1)
    half = cells.half.copy()
    half[row, axis] /= 2
    step = np.zeros_like(half)
    step[row, axis] = half[row, axis]
    centre = np.concatenate([cells.centre - step, cells.centre + step])
    weight, random = np.concatenate([cells.log_weight] * 2), np.concatenate([cells.random] * 2)
    return centre, np.concatenate([half, half]), weight, random
