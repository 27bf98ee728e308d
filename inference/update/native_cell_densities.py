"""Prior × likelihood in the plane at points, and smoothed over cells, for the processor; see `native_subdivision`."""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.likelihood.native_terms import Array, Seen, in_plane, log_sum, terms_in_plane
from beliefstream.inference.likelihood.observation_data import ANGLE
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers

WIDEST = 0.3  # radians over a cell, beyond which a bearing is not linear
NEGLIGIBLE = 40.0  # nats below the largest term of a sum
FARTHEST = 80.0  # squared distance, in deviations, beyond which a component has no part in a cell
SMALLEST = 1e-300


class Prior(NamedTuple):
    """Components of one problem's prior, in the plane."""

    peaks: Array  # (K,) log of weight × peak density
    log_weights: Array  # (K,)
    means: Array  # (K, 2)
    covariances: Array  # (K, 3) as xx, xy, yy
    precisions: Array  # (K, 3)


@borrowing
def take(mixtures: Numbers, b: int, prior: Prior) -> int:
    """Fill the components that are present; returns their number."""
    some = 0
    for k in range(mixtures.log_weights.shape[1]):
        weight, covariance = mixtures.log_weights[b, k], mixtures.covariances[b, k]
        if weight == -math.inf:
            continue
        xx, xy, yy = covariance[0, 0], covariance[1, 0], covariance[1, 1]
        determinant = xx * yy - xy * xy
        prior.log_weights[some] = weight - LOG_TWO_PI
        prior.peaks[some] = weight - LOG_TWO_PI - 0.5 * math.log(determinant)
        prior.means[some, 0], prior.means[some, 1] = mixtures.means[b, k, 0], mixtures.means[b, k, 1]
        prior.covariances[some, 0], prior.covariances[some, 1], prior.covariances[some, 2] = xx, xy, yy
        prior.precisions[some, 0] = yy / determinant
        prior.precisions[some, 1] = -xy / determinant
        prior.precisions[some, 2] = xx / determinant
        some += 1
    return some


@inner
def first_of(prior: Prior, count: int) -> Prior:
    """The components that were taken."""
    return Prior(
        prior.peaks[:count],
        prior.log_weights[:count],
        prior.means[:count],
        prior.covariances[:count],
        prior.precisions[:count],
    )


@borrowing
def density(seen: Seen, b: int, prior: Prior, x: float, y: float) -> float:
    """Log of prior × likelihood at a point."""
    best, sums = -math.inf, 0.0
    for k in range(len(prior.peaks)):
        dx, dy = x - prior.means[k, 0], y - prior.means[k, 1]
        p, q, r = prior.precisions[k, 0], prior.precisions[k, 1], prior.precisions[k, 2]
        value = prior.peaks[k] - 0.5 * (p * dx * dx + 2 * q * dx * dy + r * dy * dy)
        if value < best - NEGLIGIBLE:
            continue
        if value > best:
            sums *= math.exp(best - value)
            best = value
        sums += math.exp(value - best)
    total = best + math.log(sums)
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            _, _, inlier, outlier = terms_in_plane(seen, b, n, x, y)
            total += log_sum(inlier, outlier)
    return total


@borrowing
def highest(seen: Seen, b: int, prior: Prior) -> float:
    """Log of a density that prior × likelihood is below everywhere."""
    top = -math.inf
    for k in range(len(prior.peaks)):
        top = max(top, prior.peaks[k])
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            top += _height(seen, b, n)
    return top


@borrowing
def _height(seen: Seen, b: int, n: int) -> float:
    """Log of a likelihood that that of one observation is below everywhere."""
    inlier: float = seen.log_inlier[b, n] - seen.constant[b, n]
    outlier: float = seen.log_outlier[b, n] + seen.outlier[b, n]
    return max(inlier, outlier)


@borrowing
def smoothed(
    seen: Seen, b: int, prior: Prior, x: float, y: float, f: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    """Prior × likelihood smoothed over a cell, as a share of `highest`; the variance of its log along the axes."""
    total, one, other = _smoothed_prior(prior, x, y, f)
    for n in range(seen.kind.shape[1]):
        if not seen.mask[b, n]:
            continue
        numbers, _, some, bent, _ = in_plane(seen, b, n, x, y, f)
        along = some[0] + 0.5 * (bent[0] * bent[0] + bent[1] * bent[1])
        across = some[2] + 0.5 * (bent[1] * bent[1] + bent[2] * bent[2])
        varied, (_, squared, inlier, outlier) = along + across, numbers
        if seen.kind[b, n] == ANGLE and varied * seen.deviation[b, n] ** 2 > WIDEST**2 and varied < squared:
            varied = squared  # no line from here says where the beam passes
        height = _height(seen, b, n)
        inlier += 0.5 * squared * (varied / (1 + varied)) - height
        likely, rest = math.exp(inlier) / math.sqrt(1 + varied), 0.0
        if outlier > -math.inf:
            rest = math.exp(outlier - height)
        share = likely / (likely + rest) if likely > 0 else 0.0
        total *= likely + rest
        one += share * along
        other += share * across
    return total, one, other


@borrowing
def _smoothed_prior(
    prior: Prior, x: float, y: float, f: tuple[float, float, float, float]
) -> tuple[float, float, float]:
    xx, xy, yy = f[0] * f[0] + f[1] * f[1], f[0] * f[2] + f[1] * f[3], f[2] * f[2] + f[3] * f[3]
    highest, total, one, other = -math.inf, 0.0, 0.0, 0.0
    for k in range(len(prior.peaks)):
        highest = max(highest, prior.peaks[k])
    for k in range(len(prior.peaks)):
        wide, tilt, high = (
            prior.covariances[k, 0] + xx,
            prior.covariances[k, 1] + xy,
            prior.covariances[k, 2] + yy,
        )
        determinant = wide * high - tilt * tilt
        dx, dy = x - prior.means[k, 0], y - prior.means[k, 1]
        squared = (high * dx * dx - 2 * tilt * dx * dy + wide * dy * dy) / determinant
        if squared > FARTHEST:
            continue
        weight = math.exp(prior.log_weights[k] - highest - 0.5 * squared) / math.sqrt(determinant)
        p, q, r = prior.precisions[k, 0], prior.precisions[k, 1], prior.precisions[k, 2]
        total += weight
        one += weight * (p * f[0] * f[0] + 2 * q * f[0] * f[2] + r * f[2] * f[2])
        other += weight * (p * f[1] * f[1] + 2 * q * f[1] * f[3] + r * f[3] * f[3])
    return total, one / max(total, SMALLEST), other / max(total, SMALLEST)
