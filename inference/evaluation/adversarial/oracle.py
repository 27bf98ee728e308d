"""How far an answer is from the exact posterior, in nats, with the error of that figure.

The coordinates that sensors touch come from `grid.posterior`, run twice. The others follow exactly: given the touched
ones a component of the prior is a Gaussian, so they are drawn from it, and both densities are of the whole state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from inference.evaluation.adversarial import grid
from inference.evaluation.adversarial.likelihood import Array, seen, touched

MOST_CELLS = {1: 2000, 2: 1600, 3: 2500, 4: 4000}
_SURE = 0.02  # share of drawn mass up to which one run is enough
_MOST_POINTS = 6000  # at which densities of a whole state are compared


class Mixture(NamedTuple):
    """weights ``(K,)``, means ``(K, D)``, covariances ``(K, D, D)``."""

    weights: Array
    means: Array
    covariances: Array


class Distance(NamedTuple):
    """KL(exact ‖ answer) in nats and the error of it."""

    value: float
    error: float


@dataclass(frozen=True)
class Exact:
    """The exact posterior of one problem as weighted points of the whole state.

    Attributes:
        runs: of each run its points ``(P, D)``, shares ``(P,)`` and log densities ``(P,)`` with its own evidence.
        log_evidence: of all runs together; error: of it, nats.
        drawn: share of the mass in cells that were drawn.
    """

    runs: list[tuple[Array, Array, Array]]
    evidences: list[float]
    log_evidence: float
    error: float
    drawn: float
    target: grid.Target
    axes: list[int]

    def divergence(self, answer: Mixture) -> Distance:
        """From the exact posterior to an answer over the whole state."""
        if not _sound(answer):
            return Distance(math.inf, 0.0)
        values, errors = [], []
        for points, share, log_density in self.runs:
            log = log_density - grid.mixture_log_density(*answer, points)
            value = float(share @ log)
            values.append(value)
            # of the points drawn: neighbouring cells are not independent, each is taken as one of the sample
            errors.append(float(np.sqrt((share**2 * (log - value) ** 2).sum())))
        difference = max(values) - min(values)
        error = max(difference / 2, self.error, self._sampled(errors))
        return Distance(float(np.mean(values)), error)

    def _sampled(self, errors: list[float]) -> float:
        whole = len(self.axes) == self.runs[0][0].shape[1]
        size = float(np.mean(errors)) / math.sqrt(len(errors))
        return size * (self.drawn if whole else 1.0)

    def missed(self, answer: Mixture, generator: np.random.Generator, count: int = 400) -> float:
        """Nats by which the answer, as a proposal, finds more evidence than the runs: mass that they missed."""
        if not _sound(answer):
            return 0.0
        points = _sample(answer, count, generator)
        seen_points = points[:, self.axes]
        means, covariances = answer.means[:, self.axes], answer.covariances[:, self.axes][:, :, self.axes]
        log = self.target.log_joint(seen_points) - grid.mixture_log_density(
            answer.weights, means, covariances, seen_points
        )
        found = float(np.logaddexp.reduce(log)) - math.log(count)
        ratio = np.exp(log - log.max())
        error = float(ratio.std() / max(ratio.mean(), 1e-300)) / math.sqrt(count)
        return found - self.log_evidence - min(3 * error, 0.5)


def solve(
    prior: Mixture, readings: Sequence[Any], generator: np.random.Generator, runs: int = 2, scale: float = 1.0
) -> Exact:
    """The exact posterior; `readings` of `inference.readings`, `scale` times as many cells as usual."""
    axes = touched(readings, prior.means.shape[1])
    target = grid.Target(
        prior.weights, prior.means[:, axes], prior.covariances[:, axes][:, :, axes], seen(readings, axes)
    )
    most = int(scale * MOST_CELLS.get(len(axes), 6000))
    found = [grid.posterior(target, most, generator)]
    if found[0].drawn > _SURE:  # a rule alone has no error that another run could show
        found += [grid.posterior(target, most, generator) for _ in range(runs - 1)]
    evidences = [each.log_evidence for each in found]
    together = float(np.logaddexp.reduce(evidences)) - math.log(len(found))
    error = max((max(evidences) - min(evidences)) / 2, max(each.log_error for each in found))
    parts = []
    for each in found:
        points, share, log_density = each.points, each.share, each.log_joint - each.log_evidence
        if len(axes) < prior.means.shape[1]:
            points, share, log_density = _completed(prior, target, axes, each, generator)
        parts.append((points, share, log_density))
    return Exact(parts, evidences, together, error, max(each.drawn for each in found), target, axes)


def _completed(
    prior: Mixture,
    target: grid.Target,
    axes: list[int],
    found: grid.Posterior,
    generator: np.random.Generator,
) -> tuple[Array, Array, Array]:
    """Points with their untouched coordinates drawn, equal shares, log density of the whole state."""
    size = prior.means.shape[1]
    rest = [axis for axis in range(size) if axis not in axes]
    ticks = (np.arange(_MOST_POINTS) + generator.random()) / _MOST_POINTS
    index = np.minimum(np.searchsorted(np.cumsum(found.share), ticks), len(found.share) - 1)
    points = np.empty((_MOST_POINTS, size))
    points[:, axes] = found.points[index]
    logs = grid.component_logs(target.weights, target.means, target.covariances, found.points)
    shares = np.exp(logs - logs.max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True))[index]
    source = (
        (np.cumsum(shares, 1) < generator.random((_MOST_POINTS, 1))).sum(1).clip(max=len(prior.weights) - 1)
    )
    density = np.zeros((_MOST_POINTS, len(prior.weights)))
    noise = generator.standard_normal((_MOST_POINTS, len(rest)))
    means, factors = [], []
    for k in range(len(prior.weights)):
        covariance = prior.covariances[k]
        gain = np.linalg.solve(covariance[np.ix_(axes, axes)], covariance[np.ix_(axes, rest)]).T
        left = covariance[np.ix_(rest, rest)] - gain @ covariance[np.ix_(axes, rest)]
        means.append(prior.means[k, rest] + (points[:, axes] - prior.means[k, axes]) @ gain.T)
        factors.append((left + left.T) / 2)
        mine = source == k
        points[np.ix_(mine, rest)] = means[k][mine] + noise[mine] @ np.linalg.cholesky(factors[k]).T
    for k in range(len(prior.weights)):
        zero = np.zeros((1, len(rest)))
        density[:, k] = grid.mixture_log_density(
            np.ones(1), zero, factors[k][None], points[:, rest] - means[k]
        )
    with np.errstate(divide="ignore"):
        conditional = grid._logsumexp(np.log(shares) + density)
    joint = found.log_joint[index] - found.log_evidence + conditional
    return points, np.full(_MOST_POINTS, 1 / _MOST_POINTS), joint


def _sound(answer: Mixture) -> bool:
    finite = all(bool(np.isfinite(part).all()) for part in answer)
    return finite and positive_definite(answer.covariances)


def positive_definite(covariances: Array) -> bool:
    """Whether all have a Cholesky factor."""
    try:
        factors = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(factors).all())


def _sample(answer: Mixture, count: int, generator: np.random.Generator) -> Array:
    source = generator.choice(len(answer.weights), count, p=answer.weights / answer.weights.sum())
    factors = np.linalg.cholesky(answer.covariances)
    noise = generator.standard_normal((count, answer.means.shape[1]))
    found: Array = answer.means[source] + np.einsum("pij,pj->pi", factors[source], noise)
    return found
