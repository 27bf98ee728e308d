"""Evidence of reports: the density of what sensors report under a prior, without a posterior.

Association and the choice of a model need ``p(z) = Σ_k w_k ∫ N(x; m_k, L_k L_kᵀ) p(z | x) dx`` for many pairs of a
prior and a report, and nothing else. Here each component is divided into narrower ones. A standard normal law is a sum
of laws of deviation s at equal steps,

    N(y; 0, 1) = s Σ_j N(j s; 0, 1 − s²) N(y; j s, s²),

with a relative error of 2 exp(−2 π² (1 − s²)): the trapezoidal rule (L. N. Trefethen and J. A. C. Weideman, "The
Exponentially Convergent Trapezoidal Rule", SIAM Review 56(3), 2014). Over a part, the residuals e of all numbers
reported are Gaussian, with the moments of their expansion to second order (slopes J, curvatures H, noise R):

    E e = e₀ − ½ tr H,    S_mn = R_mn + J_m J_nᵀ + ½ tr(H_m H_n).

An observation may be an inlier of each component of its noise, or an outlier; all combinations are added up. Linear
observations are exact with one part. Otherwise s is halved until the evidence stays, and the parts reach as far out as
the mass beyond them could matter. The error falls about as s².
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import (
    WIDE_OUTLIER,
    Seen,
    Space,
    difference,
    fill_shapes,
    new_space,
    relative_to,
    smallest,
    spread_at,
)
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

ENOUGH = 0.01  # nats by which the evidence of a component may change when its parts are halved
STRAIGHT = 1e-4  # nats that curvature may change where a component is not divided
MOST_PARTS = 400_000  # of a component
REACHES = (4.5, 7.0, 11.0, 17.0, 26.0, 40.0)  # standard deviations of the prior


class Evidence(NamedTuple):
    """Log evidence of each pair, and an estimate of its error in nats; each ``(B,)``."""

    log_evidence: Tensor
    error: Tensor


class Workspace(NamedTuple):
    """Space for one part; M is the number of numbers reported, d that of touched coordinates."""

    space: Space
    point: Array  # (d,)
    frame: Array  # (d, d)
    place: Counts  # (d,) of the part, in steps
    shapes: tuple[Array, Array, Array, Array]
    residual: Array  # (M,)
    slope: Array  # (M, d)
    bend: Array  # (M, d, d)
    common: Array  # (M, M): J Jᵀ + ½ tr(H H)
    owner: Counts  # (M,) the observation of each number
    spread: Array  # (N,) σ(x) / σ₀
    choice: Counts  # (N,) hypothesis of each observation
    total: Array  # (M, M)
    factor: Array  # (M, M)
    off: Array  # (M,)


def evidence(prior: GaussianMixture, observations: Observations) -> Evidence:
    """Log evidence of the observations of each entity under its prior, and its error.

    Args:
        prior: ``(B, K, D)``; for a track and many reports, the track's belief once for each.
        observations: over the same ``D`` coordinates.

    Raises:
        ValueError: an observation is of a problem or a function of the user, which compiled code cannot evaluate.
    """
    if observations.native is None:
        raise ValueError(
            "observations: evidence alone is of built-in sensors; update for functions and problems"
        )
    touched = ((observations.matrix != 0).any(2) | (observations.heading != 0)) & observations.mask[..., None]
    pattern = (touched.any(1) * (1 << torch.arange(prior.dimension))).sum(1)
    found = torch.empty(2, prior.batch, dtype=torch.float64)
    for code in sorted(set(pattern.tolist())):
        index = torch.nonzero(pattern == code)[:, 0]
        axes = [axis for axis in range(prior.dimension) if code >> axis & 1]
        some, seen = prior.rows(index).marginal(axes), observations.rows_of(index)
        seen = replace(seen, matrix=seen.matrix[..., axes], heading=seen.heading[..., axes])
        each = np.empty((2, len(index)))
        log_weights, means, covariances = numbers_of(some)
        _evidence_of_all(log_weights, means, covariances, seen.numbers, each)
        found[:, index] = torch.from_numpy(each)
    return Evidence(*found)


def prepare() -> None:
    """Compile the evidence, or load it from Numba's cache."""
    seen, point, factor = smallest()
    found, one = np.empty((2, 1)), point.numpy()
    _evidence_of_all(one[0], one, factor.numpy(), seen, found)


@native
def _evidence_of_all(log_weights: Array, means: Array, covariances: Array, seen: Seen, found: Array) -> None:
    count, size = means.shape[1:]
    factor, each = np.empty((size, size)), np.empty((2, count))
    for b in range(len(means)):
        work = _new_work(seen, b)
        for k in range(count):
            each[0, k] = each[1, k] = -math.inf
            if log_weights[b, k] > -math.inf:
                factorise(covariances[b, k], TINY, ROUNDING, factor)
                each[0, k], each[1, k] = _of_component(seen, b, means[b, k], factor, work)
                each[0, k] += log_weights[b, k]
        _join(each, found[:, b])


@borrowing
def _join(each: Array, found: Array) -> None:
    """The sum of the components' evidences, and the mean of their errors by their shares of it."""
    highest, total, error = -math.inf, 0.0, 0.0
    for k in range(each.shape[1]):
        highest = each[0, k] if not each[0, k] <= highest else highest
    for k in range(each.shape[1]):
        share = math.exp(each[0, k] - highest)
        if share > 0:
            total += share
            error += share * each[1, k]
    found[0], found[1] = highest + math.log(total), error / total


@inner
def _new_work(seen: Seen, b: int) -> Workspace:
    number, size, most = seen.kind.shape[1], seen.matrix.shape[3], 0
    for n in range(number):
        if seen.mask[b, n]:
            most += int(seen.rows[b, n]) if seen.kind[b, n] == LINEAR else 1
    owner, at = np.empty(most, np.int64), 0
    for n in range(number):
        if seen.mask[b, n]:
            for _ in range(int(seen.rows[b, n]) if seen.kind[b, n] == LINEAR else 1):
                owner[at] = n
                at += 1
    return Workspace(
        new_space(seen),
        np.empty(size),
        np.empty((size, size)),
        np.empty(size, np.int64),
        (np.empty(size), np.empty((size, size)), np.empty((size, size)), np.empty(size)),
        np.empty(most),
        np.empty((most, size)),
        np.empty((most, size, size)),
        np.empty((most, most)),
        owner,
        np.empty(number),
        np.empty(number, np.int64),
        np.empty((most, most)),
        np.empty((most, most)),
        np.empty(most),
    )


@borrowing
def _of_component(seen: Seen, b: int, mean: Array, factor: Array, work: Workspace) -> tuple[float, float]:
    """Log evidence under one component, and its error in nats."""
    size, peak = len(mean), _peak(seen, b)
    _fill_part(seen, b, mean, factor, 1.0, 0.0, work)
    now, bent = _over_part(seen, b, work), _bent(work)
    if bent == 0.0:
        return now, 0.0
    if bent < STRAIGHT:
        return now, bent
    before, last, error, narrow, reach = now, math.inf, math.inf, 1.0, REACHES[0]
    while error > ENOUGH:
        narrow *= 0.5
        if _parts(narrow, reach, size) > MOST_PARTS:
            break
        for further in REACHES:
            if further < reach or _parts(narrow, further, size) > MOST_PARTS:
                continue
            reach = further
            now = _over_grid(seen, b, mean, factor, narrow, reach, peak, work)
            # of the prior's mass beyond the parts, all could have the likelihood of a perfect fit
            beyond = math.log(size * math.erfc(reach / math.sqrt(2.0)) + 1e-300) + peak - now
            if beyond < math.log(ENOUGH):
                break
        # two changes must be small, as one may be by chance; the next should be a quarter of the last
        change = abs(now - before) if now > before or now < before else 0.0
        error = max(change, last / 4) if beyond < math.log(ENOUGH) else math.inf
        before, last = now, change
    return now, error


@borrowing
def _parts(narrow: float, reach: float, size: int) -> float:
    """Number of parts in a grid."""
    parts: float = (2.0 * math.ceil(reach / narrow) + 1.0) ** size
    return parts


@borrowing
def _peak(seen: Seen, b: int) -> float:
    """Log of a density that that of the report is below at any state."""
    total = 0.0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            narrowest = 1.0
            for c in range(seen.noise.shape[2]):
                narrowest = min(narrowest, seen.noise[b, n, c, 2])
            inlier = seen.log_inlier[b, n] - seen.constant[b, n] - math.log(narrowest)
            outlier = seen.log_outlier[b, n]
            outlier += -seen.constant[b, n] if seen.kind[b, n] == LINEAR else seen.outlier[b, n]
            total += max(inlier, outlier) + math.log(2.0)
    return total


@borrowing
def _over_grid(
    seen: Seen, b: int, mean: Array, factor: Array, narrow: float, reach: float, peak: float, work: Workspace
) -> float:
    """Log evidence by parts of deviation `narrow`, up to `reach` deviations from the mean."""
    size, most = len(mean), math.ceil(reach / narrow)
    variance = 1 - narrow * narrow
    constant = size * (math.log(narrow) - 0.5 * math.log(2 * math.pi * variance))
    highest, total, place = -math.inf, 0.0, work.place
    for i in range(size):
        place[i] = -most
    while True:
        squared = 0.0
        for i in range(size):
            squared += (narrow * place[i]) ** 2
        weight = constant - 0.5 * squared / variance
        if weight + peak > highest - 30.0:  # else less than rounding
            _fill_part(seen, b, mean, factor, narrow, narrow, work)
            value = weight + _over_part(seen, b, work)
            if value > highest:
                total *= math.exp(highest - value)
                highest = value
            total += math.exp(value - highest) if value > -math.inf else 0.0
        i = 0
        while i < size and place[i] == most:
            place[i] = -most
            i += 1
        if i == size:
            break
        place[i] += 1
    return highest + math.log(total)


@borrowing
def _fill_part(
    seen: Seen, b: int, mean: Array, factor: Array, narrow: float, step: float, work: Workspace
) -> None:
    """Residuals, slopes and curvatures in the frame of a part, and their covariance without noise."""
    size, at = len(mean), 0
    for i in range(size):
        work.point[i] = mean[i]
        for j in range(size):
            work.frame[i, j] = narrow * factor[i, j] if j <= i else 0.0
        if step > 0:
            for j in range(i + 1):
                work.point[i] += factor[i, j] * step * work.place[j]
    for n in range(seen.kind.shape[1]):
        if not seen.mask[b, n]:
            continue
        distance, relative = relative_to(seen, b, n, work.point, work.space.relative), work.space.relative
        base = seen.deviation[b, n]
        if seen.kind[b, n] == LINEAR:
            for r in range(int(seen.rows[b, n])):
                work.residual[at] = seen.value[b, n, r] - relative[r]
                for j in range(size):
                    work.slope[at, j] = 0.0
                    for i in range(size):
                        work.slope[at, j] += seen.matrix[b, n, r, i] * work.frame[i, j]
                        work.bend[at, i, j] = 0.0
                at += 1
            work.spread[n] = 1.0
            continue
        off = difference(seen, b, n, work.point, relative, distance)
        fill_shapes(seen, b, n, work.frame, distance, off / base, base, work.space, work.shapes)
        work.spread[n], work.residual[at] = spread_at(seen, b, n, off) / base, off / base
        for i in range(size):
            work.slope[at, i] = work.shapes[3][i]
            work.residual[at] -= 0.5 * work.shapes[2][i, i]
            for j in range(size):
                work.bend[at, i, j] = work.shapes[2][i, j]
        at += 1
    for m in range(at):
        for other in range(m + 1):
            total = 0.0
            for i in range(size):
                total += work.slope[m, i] * work.slope[other, i]
                for j in range(size):
                    total += 0.5 * work.bend[m, i, j] * work.bend[other, i, j]
            work.common[m, other] = work.common[other, m] = total


@borrowing
def _bent(work: Workspace) -> float:
    """What curvature may change, in nats: its largest share of a residual's variance, times the squared residual."""
    most = 0.0
    for m in range(len(work.residual)):
        bent = 0.0
        for i in range(work.bend.shape[1]):
            for j in range(work.bend.shape[1]):
                bent += work.bend[m, i, j] * work.bend[m, i, j]
        variance = 1 + work.common[m, m]
        most = max(most, bent / variance * max(1.0, work.residual[m] * work.residual[m] / variance))
    return most


@borrowing
def _over_part(seen: Seen, b: int, work: Workspace) -> float:
    """Log evidence under one part: the sum over the hypotheses of all observations."""
    number, several = seen.kind.shape[1], seen.noise.shape[2]
    highest, total, choice = -math.inf, 0.0, work.choice
    for n in range(number):
        choice[n] = 0
    while True:
        value = _under_hypothesis(seen, b, work)
        if value > highest:
            total *= math.exp(highest - value)
            highest = value
        total += math.exp(value - highest) if value > -math.inf else 0.0
        n = 0
        while n < number:
            own = max(several, 1) if seen.kind[b, n] != LINEAR else 1
            last = own if seen.log_outlier[b, n] > -math.inf else own - 1
            if not seen.mask[b, n] or choice[n] == last:
                choice[n] = 0
                n += 1
            else:
                break
        if n == number:
            break
        choice[n] += 1
    return highest + math.log(total)


@borrowing
def _under_hypothesis(seen: Seen, b: int, work: Workspace) -> float:
    """Log of prior probability × evidence of one choice of noise or outlier for each observation."""
    constant = 0.0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            constant += _log_prior(seen, b, n, work.choice[n])
    if constant == -math.inf:
        return constant
    used = 0
    for m in range(len(work.residual)):
        n = work.owner[m]
        variance, bias = _noise(seen, b, n, work.choice[n], work.spread[n])
        if variance < 0:  # an outlier of a density that does not depend on the state
            continue
        work.off[used] = work.residual[m] - bias
        column = 0
        for other in range(m):
            if _noise(seen, b, work.owner[other], work.choice[work.owner[other]], 1.0)[0] >= 0:
                work.total[used, column] = work.common[m, other]
                column += 1
        work.total[used, used] = work.common[m, m] + variance
        used += 1
    # forward substitution with the Cholesky factor, row by row
    for m in range(used):
        for other in range(m + 1):
            value = work.total[m, other]
            for q in range(other):
                value -= work.factor[m, q] * work.factor[other, q]
            work.factor[m, other] = math.sqrt(value) if other == m else value / work.factor[other, other]
        value = work.off[m]
        for q in range(m):
            value -= work.factor[m, q] * work.off[q]
        work.off[m] = value / work.factor[m, m]
        constant -= 0.5 * work.off[m] * work.off[m] + math.log(work.factor[m, m])
    return constant


@borrowing
def _is_outlier(seen: Seen, b: int, n: int, choice: int) -> bool:
    own = max(seen.noise.shape[2], 1) if seen.kind[b, n] != LINEAR else 1
    return choice == own


@borrowing
def _log_prior(seen: Seen, b: int, n: int, choice: int) -> float:
    """Log probability of a hypothesis, and the log density of an observation that fits it exactly."""
    found: float = seen.log_inlier[b, n] - seen.constant[b, n]
    if _is_outlier(seen, b, n, choice):
        found = seen.log_outlier[b, n]
        found += -seen.constant[b, n] if seen.kind[b, n] == LINEAR else seen.outlier[b, n]
    elif seen.noise.shape[2] > 0 and seen.kind[b, n] != LINEAR:
        found += seen.noise[b, n, choice, 0]
    return found


@borrowing
def _noise(seen: Seen, b: int, n: int, choice: int, spread: float) -> tuple[float, float]:
    """Variance and bias of the noise of a hypothesis, in units of σ₀; a variance below zero for a constant density."""
    if _is_outlier(seen, b, n, choice):
        return (WIDE_OUTLIER**2, 0.0) if seen.kind[b, n] == LINEAR else (-1.0, 0.0)
    if seen.noise.shape[2] > 0 and seen.kind[b, n] != LINEAR:
        wide = spread * seen.noise[b, n, choice, 2]
        return wide * wide, seen.noise[b, n, choice, 1] / seen.deviation[b, n]
    return spread * spread, 0.0
