"""Exact filters for chains: a grid for a random walk in the plane, many particles for position with velocity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from research.evaluation.adversarial.likelihood import LOG_TWO_PI, Array, seen
from research.evaluation.adversarial.mixtures import Mixture, log_density, logsumexp, sample, sound
from research.evaluation.adversarial.oracle import Distance, Points, divergences
from research.resampling import systematic

Box = tuple[tuple[float, float], tuple[float, float]]
"""Lower and upper end along each axis."""
BOX: Box = ((-10.0, 10.0), (-10.0, 10.0))
CELL = 0.05
_NEGLIGIBLE = 1e-11  # share of the mass of a cell that is left out of the points
_PARTICLES = 40_000
_POINTS = 1500  # number of final particles at which densities are computed


@dataclass(frozen=True)
class Filtered:
    """The exact posterior after the last step.

    Attributes:
        runs: points of independent runs; one run for a grid.
        log_evidence: log evidence of all readings, nats.
        error: error of a divergence, nats.
    """

    runs: list[Points]
    log_evidence: float
    error: float

    def divergence(self, answer: Mixture) -> Distance:
        """Return KL(exact ‖ answer) with its error, nats."""
        if not sound(answer):
            return Distance(math.inf, 0.0)
        values, variances = divergences(self.runs, answer)
        sampled = math.sqrt(float(variances.max()) / len(values)) if len(values) > 1 else 0.0
        return Distance(float(values.mean()), max(self.error, float(np.ptp(values)) / 2, sampled))

    def missed(self, answer: Mixture, generator: np.random.Generator) -> float:
        """Return zero, because the missed evidence of a filter is unknown."""
        return 0.0


def walk(
    prior: Mixture,
    readings: Sequence[Sequence[Any]],
    drift: float,
    times: Sequence[float] | None = None,
    box: Box = BOX,
    cell: float = CELL,
) -> Iterator[Filtered]:
    """Filter a random walk in the plane on a grid, and yield the posterior after each row of readings.

    A step is the product of the grid with one matrix for each axis, and logarithms are kept between steps. So what has
    lost e⁻⁷⁰⁰ of the mass in a step is still there. (A Fourier transform would lose what is below 1e-16 of the peak.)

    Args:
        prior: at the time of the first row; what lies outside the box is cut off.
        readings: rows of readings, one for each time.
        drift: standard deviation of the walk along each axis after one second; 0 for an entity at rest.
        times: of the rows, seconds, in increasing order; one second apart if None.
        box: lower and upper end of the grid along each axis.
        cell: width of a cell, at most the smallest deviation of a step or a posterior.
    """
    axes = [np.arange(low + cell / 2, high, cell) for low, high in box]
    points = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(2, -1)
    log, evidence = log_density(prior, points) + 2 * math.log(cell), 0.0
    times = range(len(readings)) if times is None else times
    for before, now, row in zip([times[0], *times], times, readings, strict=False):
        if drift and now > before:
            log = _moved(log, axes, drift * math.sqrt(now - before))
        log = log + _log_likelihood(row, points)
        told = float(logsumexp(log))
        evidence, log = evidence + told, log - told
        kept = log > math.log(_NEGLIGIBLE)
        share = np.exp(log[kept])
        density = log[kept] - 2 * math.log(cell)
        yield Filtered([Points(points[:, kept], share / share.sum(), density)], evidence, 0.005)


def _moved(log: Array, axes: Sequence[Array], deviation: float) -> Array:
    """Return the logs of the masses after a step with this standard deviation along each axis."""
    top, shape = float(log.max()), tuple(map(len, axes))
    kernels = []
    for axis in axes:
        steps = (axis[:, None] - axis) / deviation
        kernels.append(np.exp(-0.5 * steps**2) * (axis[1] - axis[0]) / (deviation * math.sqrt(2 * math.pi)))
    mass = kernels[0] @ np.exp(log - top).reshape(shape) @ kernels[1]
    with np.errstate(divide="ignore"):
        found: Array = np.log(mass).reshape(-1) + top
    return found


def particles(
    prior: Mixture,
    readings: Sequence[Sequence[Any]],
    transition: Array,
    spread: Array,
    generator: np.random.Generator,
) -> Filtered:
    """Filter a linear motion with noise of full rank by two independent particle filters.

    The density of the last state is the likelihood times the mean of the motion's density over the previous particles
    of the other filter. So no kernel is needed.
    """
    filters = [_filter(prior, readings, transition, spread, generator) for _ in range(2)]
    runs = []
    for (_, last, weight, _), (before, _, _, _) in zip(filters, filters[::-1], strict=True):
        index = systematic(weight, _POINTS, generator)
        points = last[:, index]
        predicted = _log_predicted(points, before, transition, spread)
        log = predicted + _log_likelihood(readings[-1], points)
        runs.append((points, log, logsumexp(log - predicted)))
    # evidence of the last step, from the particles of the same filter
    steps = [each[3][-1] for each in filters]
    last_step = float(np.logaddexp.reduce(steps)) - math.log(2)
    evidence = [float(sum(each[3])) for each in filters]
    share = np.full(_POINTS, 1 / _POINTS)
    found = [Points(points, share, log - last_step) for points, log, _ in runs]
    return Filtered(found, float(np.mean(evidence)), abs(steps[0] - steps[1]) / 2 + 0.01)


def _filter(
    prior: Mixture,
    readings: Sequence[Sequence[Any]],
    transition: Array,
    spread: Array,
    generator: np.random.Generator,
) -> tuple[Array, Array, Array, list[float]]:
    """Return the resampled particles before the last step, the last ones, their weights, and each step's evidence."""
    factor, now = np.linalg.cholesky(spread), sample(prior, _PARTICLES, generator)
    before, weight, evidence = now, np.full(_PARTICLES, 1 / _PARTICLES), []
    for step, row in enumerate(readings):
        if step:
            before = now[:, systematic(weight, _PARTICLES, generator)]
            now = transition @ before + factor @ generator.standard_normal(before.shape)
        log = _log_likelihood(row, now)
        total = float(logsumexp(log))
        evidence.append(total - math.log(_PARTICLES))
        weight = np.exp(log - total)
    return before, now, weight, evidence


def _log_likelihood(row: Sequence[Any], points: Array) -> Array:
    total = np.zeros(points.shape[1])
    for sensor in seen(row, list(range(len(points)))):
        total += sensor.log_likelihood(sensor.predictions(points))
    return total


def _log_predicted(points: Array, before: Array, transition: Array, spread: Array) -> Array:
    """Return the log of the motion's density at `points`, averaged over the particles `before`."""
    inverse = np.linalg.inv(np.linalg.cholesky(spread))
    there, origins = inverse @ points, inverse @ (transition @ before)
    size = len(spread)
    constant = float(np.log(np.diag(inverse)).sum()) - 0.5 * size * LOG_TWO_PI - math.log(before.shape[1])
    squares, found = (origins**2).sum(0), np.empty(points.shape[1])
    for start in range(0, points.shape[1], 100):
        some = there[:, start : start + 100]
        distance = (some**2).sum(0)[:, None] + squares - 2 * some.T @ origins
        found[start : start + 100] = constant + logsumexp(-0.5 * distance.T)
    return found
