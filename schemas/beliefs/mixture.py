"""Gaussian mixture as a message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import MAXIMUM_COORDINATES, Matrix, Message, Number, Vector

_STARTS = 32  # components from which the mode is sought
_STEPS = 500
_FARTHEST = 1e300  # less than infinity, from which nothing can be subtracted
_DRAWS = 100_000  # for the threshold of a region: its probability is then met within .002
MAXIMUM_COMPONENTS = 256
_WEIGHT_TOLERANCE = 1e-6  # largest difference of the weights' sum from 1
_ROUNDING = 1e-12  # a sum this close to 1 is not normalised, so that encoding and decoding change nothing

Array = NDArray[np.float64]
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


def _listed(value: Any) -> Any:
    """Convert arrays (numpy, torch) to lists for pydantic."""
    return value.tolist() if hasattr(value, "tolist") else value


class Mixture(Message):
    """A Gaussian mixture over D coordinates: the sum over k of weights[k] N(means[k], covariances[k])."""

    weights: Annotated[Vector, BeforeValidator(_listed), Field(min_length=1, max_length=MAXIMUM_COMPONENTS)]
    """K weights, none negative; their sum is 1 within 1e-6 and is then normalised; no unit"""
    means: Annotated[Matrix, BeforeValidator(_listed), Field(min_length=1, max_length=MAXIMUM_COMPONENTS)]
    """K means of D numbers each, in the units of the coordinates; D is 1 to 16"""
    covariances: Annotated[
        Annotated[
            tuple[Matrix, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COMPONENTS)
        ],
        BeforeValidator(_listed),
    ]
    """K covariances of D by D numbers each, symmetric positive definite, in products of the units of the coordinates"""

    @field_validator("weights")
    @classmethod
    def _normalised(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        if min(weights) < 0:
            raise PydanticCustomError("invalid_weights", "expected no negative weight")
        total = math.fsum(weights)
        if not abs(total - 1) <= _WEIGHT_TOLERANCE:
            raise PydanticCustomError("invalid_weights", "expected a sum of 1, got {total}", {"total": total})
        return weights if abs(total - 1) <= _ROUNDING else tuple(weight / total for weight in weights)

    @field_validator("means")
    @classmethod
    def _means_of_one_size(cls, means: Matrix, info: ValidationInfo) -> Matrix:
        _same_components("means", means, info)
        if not 1 <= len(means[0]) <= MAXIMUM_COORDINATES or any(len(mean) != len(means[0]) for mean in means):
            raise PydanticCustomError("invalid_means", "expected means of one size, 1 to 16 numbers")
        return means

    @field_validator("covariances")
    @classmethod
    def _positive_definite(cls, covariances: tuple[Matrix, ...], info: ValidationInfo) -> tuple[Matrix, ...]:
        _same_components("covariances", covariances, info)
        means = info.data.get("means")
        size = len(means[0]) if means else len(covariances[0])
        if any(len(rows) != size or any(len(row) != size for row in rows) for rows in covariances):
            raise PydanticCustomError(
                "invalid_covariance", "expected matrices of {size} by {size}", {"size": size}
            )
        if size == 0:
            raise PydanticCustomError("invalid_covariance", "expected matrices of at least 1 by 1")
        stack = np.asarray(covariances, dtype=np.float64)
        sound = covariance_checks.checked_stack(stack)
        return covariances if sound is stack else tuple(map(covariance_checks.to_matrix, sound))

    @classmethod
    def gaussian(
        cls,
        mean: Sequence[float],
        standard_deviations: float | Sequence[float] | None = None,
        covariance: ArrayLike | None = None,
    ) -> Mixture:
        """Make a single Gaussian.

        Args:
            mean: D numbers.
            standard_deviations: one for all coordinates or one each, in their units, without correlation.
            covariance: (D, D), instead of `standard_deviations`.

        Raises:
            ValueError: neither or both of `standard_deviations` and `covariance` are given, the sizes differ, or a
                standard deviation is not positive.
            pydantic.ValidationError: the numbers are not a valid Gaussian.
        """
        if (standard_deviations is None) == (covariance is None):
            raise ValueError("give either standard_deviations or covariance")
        size = len(mean)
        if covariance is not None:
            matrix = np.asarray(covariance, dtype=np.float64)
        else:
            deviations = np.asarray(standard_deviations, dtype=np.float64)
            with np.errstate(over="ignore", under="ignore"):
                variances = deviations**2
            # a variance does not show the sign of its deviation
            if not np.all((deviations > 0) & (variances > 0) & (variances < math.inf)):
                raise ValueError(
                    "standard_deviations: expected positive numbers with finite squares above 0, got "
                    f"{deviations.tolist()}"
                )
            matrix = np.diag(np.broadcast_to(variances, size))
        point = np.asarray(mean, dtype=np.float64)
        return cls.model_validate({"weights": [1.0], "means": point[None], "covariances": matrix[None]})

    @property
    def components(self) -> int:
        """Number of components, K."""
        return len(self.weights)

    @property
    def dimension(self) -> int:
        """Number of coordinates, D."""
        return len(self.means[0])

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of the whole mixture, (D,)."""
        return np.asarray(np.asarray(self.weights) @ np.asarray(self.means))

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance of the whole mixture, (D, D): within the components plus between their means."""
        weights = np.asarray(self.weights)
        deviations = np.asarray(self.means) - self.mean()
        between = np.einsum("k,ki,kj->ij", weights, deviations, deviations)
        within = np.einsum("k,kij->ij", weights, np.asarray(self.covariances))
        return np.asarray(within + between)

    def standard_deviations(self) -> NDArray[np.float64]:
        """Return the standard deviation of each coordinate under the whole mixture, (D,)."""
        return np.asarray(np.sqrt(np.diag(self.covariance())))

    def log_density(self, points: ArrayLike) -> NDArray[np.float64]:
        """The log density (...) at points (..., D)."""
        return self._parts().log_density(_points(points, self.dimension))

    def cdf(self, points: ArrayLike) -> NDArray[np.float64]:
        """The probability that each coordinate alone is at most that of the point, (..., D) for points (..., D)."""
        return self._parts().cdf(_points(points, self.dimension))

    def mode(self) -> NDArray[np.float64]:
        """The most probable state, (D,): the highest point that is found by climbing from the means."""
        return self._parts().mode()

    def sample(self, count: int, seed: int | np.random.Generator | None = None) -> NDArray[np.float64]:
        """Draw independent states, (count, D); the same ones for the same seed."""
        return self._parts().sample(count, np.random.default_rng(seed))

    def interval(self, probability: float = 0.9) -> NDArray[np.float64]:
        """The central interval of each coordinate alone, (D, 2): as much lies below it as above.

        Raises:
            ValueError: the probability is not between 0 and 1.
        """
        tail = (1 - _between(probability)) / 2
        parts = self._parts()
        return np.stack([parts.quantile(tail), parts.quantile(1 - tail)], axis=1)

    def region(self, probability: float = 0.9) -> Region:
        """The smallest region with that probability, over all coordinates together.

        >>> mixture.region(0.9).contains([(0, 0), (3, 4)])

        It is exact for one component. Of several it is computed from fixed samples, and its probability is met within
        .002.

        Raises:
            ValueError: the probability is not between 0 and 1.
        """
        parts = self._parts()
        return Region(_between(probability), parts.threshold(probability), parts)

    def _parts(self) -> Parts:
        return Parts(np.asarray(self.weights), np.asarray(self.means), np.asarray(self.covariances))


def _between(probability: float) -> float:
    if not 0 < probability < 1:
        raise ValueError(f"probability: expected a number between 0 and 1, got {probability}")
    return probability


def _points(points: ArrayLike, size: int) -> NDArray[np.float64]:
    found = np.asarray(points, dtype=np.float64)
    if found.ndim == 0 or found.shape[-1] != size:
        raise ValueError(f"points: expected {size} coordinates each, got an array of shape {found.shape}")
    return found


def _same_components(field: str, values: Sequence[Any], info: ValidationInfo) -> None:
    weights: Sequence[Number] | None = info.data.get("weights")
    if weights is not None and len(values) != len(weights):
        raise PydanticCustomError(
            "wrong_components",
            "expected as many {field} as weights ({expected}), got {given}",
            {"field": field, "expected": len(weights), "given": len(values)},
        )
