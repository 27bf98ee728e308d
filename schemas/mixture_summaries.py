"""What a Gaussian mixture says in short: its mode, samples, distribution function, intervals and regions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_STARTS = 32  # components from which the mode is sought
_STEPS = 500
_FARTHEST = 1e300  # less than infinity, from which nothing can be subtracted
_DRAWS = 100_000  # for the threshold of a region: its probability is then met within .002
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, eq=False)
class Parts:
    """Arrays of a mixture: weights (K,), means (K, D), covariances (K, D, D)."""

    weights: Array
    means: Array
    covariances: Array

    def log_density(self, points: ArrayLike) -> Array:
        """Log density (...) at points (..., D)."""
        terms = self._terms(self._deviations(points))
        most = np.maximum(terms.max(axis=-1, keepdims=True), -_FARTHEST)
        with np.errstate(divide="ignore"):
            return np.asarray(most[..., 0] + np.log(np.exp(terms - most).sum(axis=-1)))

    def cdf(self, points: ArrayLike) -> Array:
        """The distribution function of each coordinate alone, (..., D) at points (..., D)."""
        deviations = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        scaled = self._deviations(points) / deviations
        return np.asarray(np.einsum("k,...kd->...d", self.weights, 0.5 * (1 + _erf(scaled / math.sqrt(2)))))

    def quantile(self, probability: float) -> Array:
        """The quantile of each coordinate alone, (D,)."""
        deviations = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        own = self.means + NormalDist().inv_cdf(probability) * deviations
        low, high = own.min(axis=0), own.max(axis=0)  # the mixture's lies between those of its components
        for _ in range(200):
            middle = (low + high) / 2
            below = self.cdf(middle) < probability
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return np.asarray((low + high) / 2)

    def sample(self, count: int, generator: np.random.Generator) -> Array:
        """Independent points, (count, D)."""
        chosen = generator.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        noise = generator.standard_normal((count, self.means.shape[1]))
        factors = np.linalg.cholesky(self.covariances)
        return np.asarray(self.means[chosen] + np.einsum("nij,nj->ni", factors[chosen], noise))

    def mode(self) -> Array:
        """The highest point that is found by climbing from the means, (D,)."""
        heights = self.log_density(self.means)
        starts = self.means[np.argsort(-heights, kind="stable")[:_STARTS]]
        tops = np.array([self._climb(start) for start in starts])
        return np.asarray(tops[int(np.argmax(self.log_density(tops)))])

    def threshold(self, probability: float) -> float:
        """The log density above which the probability lies."""
        if len(self.weights) == 1:
            size = self.means.shape[1]
            top = float(self.log_density(self.means[0]))
            return top - chi_square_quantile(probability, size) / 2
        drawn = self.sample(_DRAWS, np.random.default_rng(0))
        return float(np.quantile(self.log_density(drawn), 1 - probability))

    def _deviations(self, points: ArrayLike) -> Array:
        return np.asarray(points, dtype=np.float64)[..., None, :] - self.means

    def _terms(self, deviations: Array) -> Array:
        """Log weight times density of each component, (..., K)."""
        factors = np.linalg.cholesky(self.covariances)
        white = np.einsum("kij,...kj->...ki", np.linalg.inv(factors), deviations)
        size = self.means.shape[1]
        logs = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1) + size / 2 * math.log(2 * math.pi)
        with np.errstate(divide="ignore", over="ignore"):  # a weight of 0, or a point too far to tell
            return np.asarray(np.log(self.weights) - logs - (white**2).sum(axis=-1) / 2)

    def _climb(self, point: Array) -> Array:
        """Newton's steps where they climb, otherwise those of the fixed point, which always do.

        M. Á. Carreira-Perpiñán, "Mode-finding for mixtures of Gaussian distributions", IEEE TPAMI 22(11), 2000.
        """
        precisions = np.linalg.inv(self.covariances)
        for _ in range(_STEPS):
            terms = self._terms(self._deviations(point))
            shares = np.exp(terms - terms.max())
            shares /= shares.sum()
            pulls = np.einsum("kij,kj->ki", precisions, self.means - point)
            slope, weighted = shares @ pulls, np.einsum("k,kij->ij", shares, precisions)
            bend = np.einsum("k,ki,kj->ij", shares, pulls, pulls) - weighted - np.outer(slope, slope)
            step = np.linalg.solve(weighted, slope)
            newton = _newton(bend, slope)
            if newton is not None and self.log_density(point + newton) >= self.log_density(point):
                step = newton
            point = point + step
            if np.sqrt(step @ weighted @ step) < 1e-12:
                break
        return point


def _newton(bend: Array, slope: Array) -> Array | None:
    """Newton's step to a maximum; None where the density is not concave."""
    try:
        np.linalg.cholesky(-bend)
    except np.linalg.LinAlgError:
        return None
    return np.asarray(np.linalg.solve(-bend, slope))


def chi_square_cdf(value: float, size: int) -> float:
    """The distribution function of chi-square with `size` degrees of freedom."""
    half, shape = value / 2, 1.0 if size % 2 == 0 else 0.5
    found = -math.expm1(-half) if size % 2 == 0 else math.erf(math.sqrt(half))
    while shape < size / 2:
        found -= math.exp(shape * math.log(half) - half - math.lgamma(shape + 1)) if half > 0 else 0.0
        shape += 1
    return found


def chi_square_quantile(probability: float, size: int) -> float:
    """The quantile of chi-square with `size` degrees of freedom."""
    low, high = 0.0, 1.0
    while chi_square_cdf(high, size) < probability:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if chi_square_cdf(middle, size) < probability else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, eq=False)
class Region:
    """The smallest region with a probability: where the density is high.

    Attributes:
        probability: that the state lies in it.
        log_density: the log density on its border.
    """

    probability: float
    log_density: float
    _parts: Parts

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Whether points (..., D) lie in it, (...)."""
        return np.asarray(self._parts.log_density(points) >= self.log_density)


def region(parts: Parts, probability: float) -> Region:
    """The region of a mixture; exact for one component, otherwise met within .002."""
    return Region(probability, parts.threshold(probability), parts)
