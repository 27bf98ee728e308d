"""Gaussian mixtures in numpy; points are columns, ``(D, P)``."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from research.evaluation.adversarial.likelihood import LOG_TWO_PI, Array


class Mixture(NamedTuple):
    """A Gaussian mixture: weights ``(K,)``, means ``(K, D)``, covariances ``(K, D, D)``."""

    weights: Array
    means: Array
    covariances: Array

    def marginal(self, axes: list[int]) -> Mixture:
        """Return the marginal over the coordinates `axes`."""
        return Mixture(self.weights, self.means[:, axes], self.covariances[:, axes][:, :, axes])


def log_density(mixture: Mixture, points: Array, sides: Array | None = None) -> Array:
    """Return the log density ``(P,)`` at `points` ``(D, P)``, widened by `sides` as in `component_logs`."""
    return logsumexp(component_logs(mixture, points, sides))


def component_logs(mixture: Mixture, points: Array, sides: Array | None = None) -> Array:
    """Return the log of weight × density of each component, ``(K, P)``.

    With `sides` ``(D, D, P)``, the vectors along the sides of a box, it is approximately the mean density of the box
    around each point.
    """
    inverse = np.linalg.inv(np.linalg.cholesky(mixture.covariances))
    size = mixture.means.shape[1]
    with np.errstate(divide="ignore"):
        constant = np.log(mixture.weights) + np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum(1)
    constant = constant - 0.5 * size * LOG_TWO_PI
    found = np.empty((len(constant), points.shape[1]))
    for k, mean in enumerate(mixture.means):
        y = inverse[k] @ (points - mean[:, None])
        if sides is None:
            found[k] = constant[k] - 0.5 * np.einsum("ip,ip->p", y, y)
        else:
            wide = np.tensordot(inverse[k], sides, 1)
            variance = 1 + np.einsum("ijp,ijp->ip", wide, wide)
            found[k] = constant[k] - 0.5 * (y * y / variance + np.log(variance)).sum(0)
    return found


def logsumexp(logs: Array) -> Array:
    """Return the log of the sum of exponentials over the first axis."""
    if len(logs) == 1:
        only: Array = logs[0]
        return only
    top = logs.max(0)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        found: Array = np.log(np.exp(logs - top).sum(0)) + top
    return found


def positive_definite(covariances: Array) -> bool:
    """Whether all covariances ``(K, D, D)`` have a Cholesky factor."""
    try:
        factors = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(factors).all())


def sound(mixture: Mixture) -> bool:
    """Whether the mixture is a valid density."""
    finite = all(bool(np.isfinite(part).all()) for part in mixture)
    return finite and positive_definite(mixture.covariances)


def sample(mixture: Mixture, count: int, generator: np.random.Generator) -> Array:
    """Draw `count` independent points, ``(D, count)``."""
    source = generator.choice(len(mixture.weights), count, p=mixture.weights / mixture.weights.sum())
    factors = np.linalg.cholesky(mixture.covariances)
    noise = generator.standard_normal((count, mixture.means.shape[1]))
    found: Array = (mixture.means[source] + np.einsum("pij,pj->pi", factors[source], noise)).T
    return found
