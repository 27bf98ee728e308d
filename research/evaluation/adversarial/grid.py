"""Exact posteriors on adaptively split cells, in the coordinates that sensors observe.

Cells are boxes in coordinates in which the prior has unit covariance. A cell is *resolved* if the log of prior ×
likelihood changes little across it. Unresolved cells that may have mass are halved along the axis of the largest change
of the density and the predictions. Two estimates bound the mass of a cell. The density widened by the cell finds a
narrow ridge inside it. The density tempered until it is smooth across cells finds a compromise between contradictory
sensors. Thin rings, or three and more coordinates, leave too many cells unresolved. Then a part of them is drawn, with
weights such that every integral is unbiased (P. Fearnhead, P. Clifford, "On-line inference for hidden Markov models via
particle filters", J. Royal Statistical Society B 65(4), 2003). The cells are then a sample, and two independent samples
give its error.

Points and boxes are columns, ``(d, P)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from research.evaluation.adversarial.likelihood import Array, Seen, wrapped
from research.evaluation.adversarial.mixtures import Mixture, log_density, logsumexp

CHANGE = 1.0  # largest change across a resolved cell, nats
_NEGLIGIBLE = 1e-7  # share of the mass below which a cell is dropped
_ENOUGH = 1e-2  # share of the mass that may remain unresolved, as it always does along a jump
_FIRST = {1: 300, 2: 40, 3: 13, 4: 8}  # cells along an axis within `_INNER` standard deviations, by d
_INNER = 6.0
_OUTER = {1: (9.0, 14.0, 24.0, 45.0), 2: (9.0, 14.0, 24.0, 45.0), 3: (12.0, 45.0), 4: (30.0,)}
_MOST_PASSES = 120
_WIDER = 1.2  # safety factor of the widening
_POWERS = 8  # number of steps of the search for a power


@dataclass(frozen=True)
class Target:
    """Prior and readings over the ``d`` observed coordinates."""

    prior: Mixture
    sensors: list[Seen]

    def frame(self) -> tuple[Array, Array]:
        """Return the mean ``(d,)`` of the whole prior, and a factor ``(d, d)`` of its covariance."""
        mean = self.prior.weights @ self.prior.means
        offset = self.prior.means - mean
        within = np.einsum("k,kij->ij", self.prior.weights, self.prior.covariances)
        return mean, np.linalg.cholesky(within + (self.prior.weights * offset.T) @ offset)

    def log_joint(self, points: Array) -> Array:
        """Return the log of prior × likelihood at `points` ``(d, P)``, ``(P,)``."""
        total = log_density(self.prior, points)
        for sensor in self.sensors:
            total = total + sensor.log_likelihood(sensor.predictions(points))
        return total


@dataclass
class _Cells:
    """``n`` boxes in the frame of the prior, with their weights and densities."""

    centre: Array  # (d, n)
    half: Array  # (d, n)
    log_weight: Array  # (n,) minus the log probability that it was kept
    random: Any  # (n,) bool, whether it or an ancestor was drawn
    log_f: Array  # (n,) at the centre
    log_mean: Array  # (n,) of the mean over the box, by Simpson's rule along each axis
    log_guide: Array  # (n,) of the widened density
    log_bound: (
        Array  # (n,) the same; where a sensor has several reports, at least the largest value in the box
    )
    change: Array  # (n,) largest change across the box along an axis, nats
    axis: Any  # (n,) axis along which a split is most useful

    @property
    def count(self) -> int:
        return len(self.log_weight)

    def take(self, index: Any) -> _Cells:
        return _Cells(*(getattr(self, field.name)[..., index] for field in fields(self)))

    @staticmethod
    def join(parts: list[_Cells]) -> _Cells:
        names = [field.name for field in fields(_Cells)]
        return _Cells(*(np.concatenate([getattr(part, name) for part in parts], -1) for name in names))

    @property
    def log_size(self) -> Array:
        """Log of the volume that each box represents, ``(n,)``."""
        found: Array = self.log_weight + np.log(2 * self.half).sum(0)
        return found


@dataclass(frozen=True)
class Posterior:
    """Weighted points of one run.

    Attributes:
        points: ``(d, P)``.
        share: mass of each point, ``(P,)``.
        log_joint: log of prior × likelihood at each point, ``(P,)``.
        log_evidence: log density of the readings, nats.
        log_error: error of the log evidence by the estimate of the integration rule, nats.
        drawn: share of the mass in drawn cells.
    """

    points: Array
    share: Array
    log_joint: Array
    log_evidence: float
    log_error: float
    drawn: float


def posterior(target: Target, most: int, generator: np.random.Generator, change: float = CHANGE) -> Posterior:
    """Compute the exact posterior of one problem, with at most `most` unresolved cells at a time."""
    mean, factor = target.frame()
    centre, half = _first(target, mean, factor, generator)
    plain = np.zeros(centre.shape[1])
    cells = _evaluated(target, mean, factor, centre, half, plain, plain > 0)
    done = cells.take(plain > 0)
    for _ in range(_MOST_PASSES):
        cells, done, unresolved = _sorted(cells, done, change)
        if unresolved < _ENOUGH:
            break
        cells = _kept(cells, most, generator)
        cells = _evaluated(target, mean, factor, *_split(cells))
    whole = _Cells.join([done, cells])
    mass = whole.log_size + whole.log_mean
    total = float(logsumexp(mass))
    share = np.exp(mass - total)
    crude = np.exp(whole.log_size + whole.log_f - total)
    error = 0.06 * float(np.abs(share - crude).sum()) + 0.2 * float(share[done.count :].sum())
    kept = share > 0
    return Posterior(
        mean[:, None] + factor @ whole.centre[:, kept],
        share[kept],
        whole.log_f[kept],
        total + float(np.log(np.diag(factor)).sum()),
        error,
        float(share[whole.random].sum()),
    )


def _first(target: Target, mean: Array, factor: Array, generator: np.random.Generator) -> tuple[Array, Array]:
    """Return centres and half widths of randomly shifted cells that cover the prior, finer in its middle."""
    size, inverse = len(mean), np.linalg.inv(factor)
    centres = (target.prior.means - mean) @ inverse.T
    spread = np.sqrt(np.einsum("ij,kjl,il->ki", inverse, target.prior.covariances, inverse))
    outer = np.array([far - _INNER for far in _OUTER[size]])
    edges = []
    for low, high in zip((centres - _INNER * spread).min(0), (centres + _INNER * spread).max(0), strict=True):
        step = (high - low) / _FIRST[size]
        inner = low + step * (np.arange(_FIRST[size] + 2) - generator.random())
        edges.append(np.concatenate([inner[0] - outer[::-1], inner, inner[-1] + outer]))
    middle = np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij")
    half = np.meshgrid(*[(e[1:] - e[:-1]) / 2 for e in edges], indexing="ij")
    return np.stack(middle).reshape(size, -1), np.stack(half).reshape(size, -1)


def _evaluated(
    target: Target, mean: Array, factor: Array, centre: Array, half: Array, log_weight: Array, random: Any
) -> _Cells:
    """Evaluate the density at the centre and at both ends of every axis of each box."""
    size, count = centre.shape
    ends = np.repeat(centre[:, None], 2 * size + 1, 1)
    for axis in range(size):
        ends[axis, 2 * axis + 1] -= half[axis]
        ends[axis, 2 * axis + 2] += half[axis]
    flat = mean[:, None] + factor @ ends.reshape(size, -1)
    log = log_density(target.prior, flat).reshape(-1, count)
    # standard deviation of a point inside the box, along each side
    sides = factor[:, :, None] * half[None] * (2 * _WIDER / math.sqrt(12))
    guide, worth = log_density(target.prior, flat[:, :count], sides), np.zeros((size, count))
    bound = guide
    for sensor in target.sensors:
        h = sensor.predictions(flat)
        log += sensor.log_likelihood(h).reshape(-1, count)
        around = h.reshape(-1, 2 * size + 1, count)
        middle = around[:, 0]
        if np.isnan(h).any():
            middle = np.where(np.isnan(middle), _mean_of_known(around), middle)
        offset = around[:, 1:] - middle[:, None]
        offset = np.nan_to_num(np.abs(wrapped(offset) if sensor.is_angle else offset))
        across = offset[:, 0::2] + offset[:, 1::2]  # (m, d, n)
        likely = sensor.log_likelihood(middle, _WIDER * np.sqrt((across**2).sum(1) / 12))
        guide = guide + likely
        bound = bound + (sensor.log_bound(middle, across.sum(1) / 2) if len(sensor.values) > 1 else likely)
        with np.errstate(invalid="ignore"):
            relevance = np.fmin(np.abs(likely - sensor.log_likelihood(middle)), 1.0)
        worth += ((across / sensor.noise_floor[:, None, None]) ** 2).sum(0) * relevance
    with np.errstate(invalid="ignore", over="ignore"):
        step = log[1:] - log[0]
        ratio = np.where(np.isnan(step), 1.0, np.exp(np.minimum(step, 50.0)))
        step = np.minimum(np.where(np.isnan(step), 0.0, np.abs(step)), 1e6)
    average = log[0] + np.log(np.maximum(1 + (ratio.sum(0) - 2 * size) / 6, 1e-3))
    change = step[0::2] + step[1::2]
    axis = (worth + change**2).argmax(0)
    return _Cells(centre, half, log_weight, random, log[0], average, guide, bound, change.max(0), axis)


def _mean_of_known(around: Array) -> Array:
    """Return the mean over the ends at which the function is defined, ``(m, n)``."""
    known = ~np.isnan(around)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, around, 0.0).sum(1) / np.maximum(count, 1), np.nan)


def _sorted(cells: _Cells, done: _Cells, change: float) -> tuple[_Cells, _Cells, float]:
    """Return the cells to split, the resolved cells, and the share of the mass in the former.

    Cells with negligible mass are dropped.
    """
    with np.errstate(invalid="ignore"):
        fine = (cells.change < change) & (np.abs(cells.log_guide - cells.log_mean) < 0.5 * change)
    coarse, done = cells.take(~fine), _Cells.join([done, cells.take(fine)])
    finished, upper = (
        done.log_size + done.log_mean,
        np.maximum(_upper(coarse), coarse.log_size + coarse.log_bound),
    )
    # relative to the mass found so far, because high estimates of a few far cells must not cause others to be dropped
    least = logsumexp(np.concatenate([finished, coarse.log_size + coarse.log_f])) + math.log(_NEGLIGIBLE)
    most = logsumexp(np.concatenate([finished, upper]))
    unresolved = float(np.exp(upper - most).sum()) if coarse.count else 0.0
    return coarse.take(upper > least), done.take(finished > least + math.log(1e-3)), unresolved


def _upper(cells: _Cells) -> Array:
    """Return upper estimates of the log mass of unresolved cells."""
    return cells.log_size + np.maximum(cells.log_guide, cells.log_mean)


def _shares(cells: _Cells) -> Array:
    """Return drawing probabilities of unresolved cells: the mass each may have, also under the tempered density."""
    upper = _upper(cells)
    return np.maximum(np.exp(upper - logsumexp(upper)), _tempered(cells, cells.log_size))


def _tempered(cells: _Cells, size: Array) -> Array:
    """Return the shares under the density to the largest power for which it is smooth across cells with mass."""
    finite = np.isfinite(cells.log_f)
    if not finite.any():
        return np.zeros(cells.count)
    log = np.where(finite, cells.log_f - cells.log_f[finite].max(), -math.inf)

    def shares(power: float) -> Array:
        mass = np.exp(np.maximum(power * log, -700.0) + size - size.max()) * finite
        found: Array = mass / max(float(mass.sum()), 1e-300)
        return found

    low, high = -30.0, 0.0
    if float(shares(1.0) @ cells.change) < 2.0:
        return shares(1.0)
    for _ in range(_POWERS):
        middle = (low + high) / 2
        power = math.exp(middle)
        if power * float(shares(power) @ cells.change) < 2.0:
            low = middle
        else:
            high = middle
    return shares(math.exp(low))


def _kept(cells: _Cells, most: int, generator: np.random.Generator) -> _Cells:
    """Return all cells, or about `most` of them; light ones are drawn at random and get a larger weight."""
    count = cells.count
    if count <= most:
        return cells
    share = _shares(cells)
    # the threshold at which the sum of min(share / threshold, 1) is `most`
    order = np.sort(share)
    below = np.cumsum(order)
    expected = below / np.maximum(order, 1e-300) + count - 1 - np.arange(count)
    place = min(max(int(np.searchsorted(-expected, -most)), 1), count - 1)
    threshold = below[place - 1] / max(most - (count - place), 1)
    chance = np.minimum(share / threshold, 1.0)
    ticks = np.floor(np.cumsum(chance) + generator.random())
    drawn = (np.diff(ticks, prepend=0.0) >= 1) | (chance >= 1)
    found = cells.take(drawn)
    found.log_weight = found.log_weight - np.log(chance[drawn])
    found.random = found.random | (chance[drawn] < 1)
    return found


def _split(cells: _Cells) -> tuple[Array, Array, Array, Any]:
    """Return both halves of each cell, split along the most useful axis."""
    place = np.arange(cells.count)
    half = cells.half.copy()
    half[cells.axis, place] /= 2
    step = np.zeros_like(half)
    step[cells.axis, place] = half[cells.axis, place]
    centre = np.concatenate([cells.centre - step, cells.centre + step], 1)
    weight, random = np.tile(cells.log_weight, 2), np.tile(cells.random, 2)
    return centre, np.tile(half, 2), weight, random
