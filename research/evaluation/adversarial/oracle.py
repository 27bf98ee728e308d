"""Computes the divergence of an answer from the exact posterior in nats, with its error.

The posterior of the observed coordinates comes from two runs of `grid.posterior`. Given these, each prior component is
a Gaussian over the other coordinates, which are drawn from it. Both densities are over the whole state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from research.evaluation.adversarial import grid
from research.evaluation.adversarial.likelihood import Array, seen, touched
from research.evaluation.adversarial.mixtures import (
    Mixture,
    component_logs,
    log_density,
    logsumexp,
    sample,
    sound,
)
from research.resampling import systematic

MOST_CELLS = {1: 2000, 2: 1600, 3: 2500, 4: 4000}
_SURE = 0.02  # share of drawn mass up to which one run is enough
_DRAWN = 1.5  # error of the log evidence if all cells are drawn, times the square root of their number
_MOST_POINTS = 6000  # number of points at which densities of the whole state are compared


class Distance(NamedTuple):
    """KL(exact ‖ answer) in nats, and its error."""

    value: float
    error: float


class Points(NamedTuple):
    """Points of one run over the whole state ``(D, P)``, with their mass ``(P,)`` and log density ``(P,)``."""

    points: Array
    share: Array
    log_density: Array


def divergences(runs: Sequence[Points], answer: Mixture) -> tuple[Array, Array]:
    """Return KL(exact ‖ answer) by each run, and the variance of each, nats."""
    values, variances = [], []
    for points, share, log in runs:
        ratio = log - log_density(answer, points)
        values.append(share @ ratio)
        variances.append(share**2 @ (ratio - values[-1]) ** 2)
    return np.array(values), np.array(variances)


@dataclass(frozen=True)
class Exact:
    """The exact posterior of one problem.

    Attributes:
        runs: points of independent runs; one run if almost no mass was drawn.
        log_evidence: log evidence from all runs, nats.
        error: error of the log evidence, nats.
        drawn: share of the mass in drawn cells.
        target: prior and readings over the observed coordinates.
        axes: indices of the observed coordinates.
    """

    runs: list[Points]
    log_evidence: float
    error: float
    drawn: float
    target: grid.Target
    axes: list[int]

    def divergence(self, answer: Mixture) -> Distance:
        """Return KL(exact ‖ answer) over the whole state, with its error, nats."""
        if not sound(answer):
            return Distance(math.inf, 0.0)
        values, variances = divergences(self.runs, answer)
        whole = len(self.axes) == len(self.runs[0].points)
        sampled = math.sqrt(float(variances.mean()) / len(values)) * (self.drawn if whole else 1.0)
        error = max(float(np.ptp(values)) / 2, self.error, sampled)
        return Distance(float(values.mean()), error)

    def missed(self, answer: Mixture, generator: np.random.Generator, count: int = 400) -> float:
        """Return the log evidence, nats, that points of the answer find in addition to the runs.

        Half of the points are drawn from the answer and half from the first run. So no weight is more than twice the
        evidence, also where the answer lacks mass (a defensive mixture: T. Hesterberg, "Weighted average importance
        sampling and defensive mixture distributions", Technometrics 37(2), 1995).
        """
        if not sound(answer):
            return 0.0
        there, (points, share, _) = answer.marginal(self.axes), self.runs[0]
        index = systematic(share / share.sum(), count, generator)
        points = np.concatenate([sample(there, count, generator), points[self.axes][:, index]], 1)
        log = self.target.log_joint(points) - self.log_evidence
        ratio = np.exp(log - np.logaddexp(log_density(there, points), log) + math.log(2))
        error = float(ratio.std() / ratio.mean()) / math.sqrt(2 * count)
        return math.log(ratio.mean()) - 3 * error


def solve(prior: Mixture, readings: Sequence[Any], generator: np.random.Generator) -> Exact:
    """Solve a problem exactly."""
    axes = touched(readings, prior.means.shape[1])
    target = grid.Target(prior.marginal(axes), seen(readings, axes))
    most = MOST_CELLS.get(len(axes), 6000)
    found = [grid.posterior(target, most, generator)]
    if found[0].drawn > _SURE:  # only another run shows the error of drawn cells
        found.append(grid.posterior(target, most, generator))
    evidences = [each.log_evidence for each in found]
    together = float(np.logaddexp.reduce(evidences)) - math.log(len(found))
    drawn = max(each.drawn for each in found)
    error = max(
        (max(evidences) - min(evidences)) / 2, *(each.log_error for each in found), _DRAWN * drawn / most**0.5
    )
    if len(axes) < prior.means.shape[1]:
        parts = [_completed(prior, target, axes, each, generator) for each in found]
    else:
        parts = [Points(each.points, each.share, each.log_joint - each.log_evidence) for each in found]
    return Exact(parts, together, error, drawn, target, axes)


def _completed(
    prior: Mixture,
    target: grid.Target,
    axes: list[int],
    found: grid.Posterior,
    generator: np.random.Generator,
) -> Points:
    """Draw the coordinates that are not observed, and return equally weighted points with their log density."""
    size, components = prior.means.shape[1], len(prior.weights)
    rest = [axis for axis in range(size) if axis not in axes]
    index = systematic(found.share, _MOST_POINTS, generator)
    points = np.empty((size, _MOST_POINTS))
    points[axes] = found.points[:, index]
    logs = component_logs(target.prior, points[axes])
    log_source = logs - logsumexp(logs)
    below = np.cumsum(np.exp(log_source), 0) < generator.random(_MOST_POINTS)
    source = below.sum(0).clip(max=components - 1)
    noise = generator.standard_normal((len(rest), _MOST_POINTS))
    predicted = np.empty((components, len(rest), _MOST_POINTS))
    left = np.empty((components, len(rest), len(rest)))
    for k in range(components):
        across = prior.covariances[k][np.ix_(axes, rest)]
        gain = np.linalg.solve(prior.covariances[k][np.ix_(axes, axes)], across).T
        predicted[k] = prior.means[k, rest][:, None] + gain @ (points[axes] - prior.means[k, axes][:, None])
        left[k] = prior.covariances[k][np.ix_(rest, rest)] - gain @ across
        left[k] = (left[k] + left[k].T) / 2
        mine = source == k
        points[np.ix_(rest, mine)] = predicted[k][:, mine] + np.linalg.cholesky(left[k]) @ noise[:, mine]
    density = np.empty((components, _MOST_POINTS))
    for k in range(components):
        centred = Mixture(np.ones(1), np.zeros((1, len(rest))), left[k][None])
        density[k] = log_density(centred, points[rest] - predicted[k])
    joint = found.log_joint[index] - found.log_evidence + logsumexp(log_source + density)
    return Points(points, np.full(_MOST_POINTS, 1 / _MOST_POINTS), joint)
