"""Filters of task 5: particles, whose density is a sum in closed form, and ours, a Gaussian fitted by importance.

The noise of a step has full rank, so p(x_t | returns) is a sum over the particles of t − 1, with no kernel.
"""

from __future__ import annotations

import math

import numpy as np

from research.paper.exact.grids import Array
from research.paper.exact.particles import (
    LOG_TAU,
    as_gaussian,
    gaussian_log_density,
    log_sum,
    moments,
    normalised,
    resampled,
)
from research.paper.volatility.task import FACTORS, Constants, Likelihood, Series

NEWTON = 10  # steps to the mode
ROUNDS = 2  # of importance sampling
WIDER = 1.2  # deviations of the first proposal over those of the curvature
FREEDOM = 8  # degrees of freedom of the proposal, a Student t
LONGEST = 3.0  # step to the mode in a coordinate


def particle_filter(constants: Constants, series: Series, count: int, seed: int) -> tuple[Array, Array]:
    """Return log densities of the true states ``(S, T)``: of the sum over particles, and of a Gaussian."""
    numbers = np.random.default_rng(seed)
    points = constants.spread * numbers.normal(size=(len(series.states), count, FACTORS))
    sums, gaussians = [], []
    before: tuple[Array, Array] | None = None
    for step in range(series.states.shape[1]):
        truth = series.states[:, step]
        likelihood = Likelihood.of(series.loadings, series.returns[:, step])
        logs = likelihood.log_density(points)
        evidence = log_sum(logs) - math.log(count)
        seen = likelihood.log_density(truth[:, None])[:, 0] - evidence
        sums.append(_predicted(constants, before, truth) + seen)
        weights = normalised(logs)
        gaussians.append(as_gaussian(points, weights, truth))
        before = (points, logs - log_sum(logs)[:, None])
        points = constants.persistence * resampled(points, weights, numbers)
        points = points + constants.step * numbers.normal(size=points.shape)
    return np.stack(sums, 1), np.stack(gaussians, 1)


def _predicted(constants: Constants, before: tuple[Array, Array] | None, truth: Array) -> Array:
    """Return the log density of the prediction at `truth` ``(S, 10)``, from weighted particles of the last step."""
    if before is None:
        distance = ((truth / constants.spread) ** 2).sum(-1)
        return np.asarray(-0.5 * distance - FACTORS * (math.log(constants.spread) + 0.5 * LOG_TAU))
    points, log_weights = before
    distance = (((truth[:, None] - constants.persistence * points) / constants.step) ** 2).sum(-1)
    constant = FACTORS * (math.log(constants.step) + 0.5 * LOG_TAU)
    return np.asarray(log_sum(log_weights - 0.5 * distance) - constant)


def gaussian_filter(
    constants: Constants, series: Series, count: int, seed: int
) -> tuple[Array, Array, Array]:
    """Filter with one Gaussian a series, fitted by `ROUNDS` times `count` weighted points.

    Returns:
        Log densities of the true states ``(S, T)``; those of prediction times likelihood; sample efficiencies
        ``(S, T)``, as shares of `count`.
    """
    numbers = np.random.default_rng(seed)
    mean = np.zeros((len(series.states), FACTORS))
    covariance = np.tile(constants.spread**2 * np.eye(FACTORS), (len(mean), 1, 1))
    found = []
    for step in range(series.states.shape[1]):
        if step:
            mean = constants.persistence * mean
            covariance = constants.persistence**2 * covariance + constants.step**2 * np.eye(FACTORS)
        truth = series.states[:, step]
        likelihood = Likelihood.of(series.loadings, series.returns[:, step])
        prior = gaussian_log_density(truth, mean, covariance) + likelihood.log_density(truth[:, None])[:, 0]
        mean, covariance, evidence, size = update(likelihood, mean, covariance, count, numbers)
        found.append((gaussian_log_density(truth, mean, covariance), prior - evidence, size))
    first, second, third = (np.stack(column, 1) for column in zip(*found, strict=True))
    return first, second, third


def update(
    likelihood: Likelihood, mean: Array, covariance: Array, count: int, numbers: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """Return mean, covariance, log evidence and sample efficiency of the posterior of a Gaussian prior.

    Newton steps with the Fisher information find the mode. Then points of a Student t around it, weighted by prior
    times likelihood over proposal, give moments, from which the next points are drawn.
    """
    centre, spread = mode(likelihood, mean, covariance)
    spread = WIDER**2 * spread
    for _ in range(ROUNDS):
        points, proposal = _student(centre, spread, count, numbers)
        prior = gaussian_log_density(points, mean[:, None], covariance[:, None])
        logs = likelihood.log_density(points) + prior - proposal
        weights = normalised(logs)
        centre, spread = moments(points, weights)
    size = 1 / (weights**2).sum(1) / count
    return centre, spread, log_sum(logs) - math.log(count), size


def mode(likelihood: Likelihood, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Return the mode ``(S, 10)`` of the posterior and the inverse of its information."""
    precision = np.linalg.inv(covariance)
    here = mean

    def height(at: Array) -> Array:
        offset = at - mean
        prior = -0.5 * np.einsum("si,sij,sj->s", offset, precision, offset)
        return np.asarray(likelihood.log_density(at[:, None])[:, 0] + prior)

    for _ in range(NEWTON):
        gradient, information = likelihood.slope(here)
        total = gradient - (precision @ (here - mean)[..., None])[..., 0]
        step = np.linalg.solve(information + precision, total[..., None])[..., 0].clip(-LONGEST, LONGEST)
        share = np.ones((len(here), 1))
        for _ in range(8):  # halve each step until it goes up
            share = np.where((height(here + share * step) < height(here))[:, None], share / 2, share)
        here = here + share * step
    return here, np.linalg.inv(likelihood.slope(here)[1] + precision)


def _student(centre: Array, spread: Array, count: int, numbers: np.random.Generator) -> tuple[Array, Array]:
    """Draw points ``(S, count, 10)`` of a Student t, and return them with their log densities."""
    series, size = centre.shape
    factor = np.linalg.cholesky(spread)
    normal = numbers.normal(size=(series, count, size))
    stretch = np.sqrt(FREEDOM / numbers.chisquare(FREEDOM, size=(series, count, 1)))
    points = centre[:, None] + (normal * stretch) @ factor.transpose(0, 2, 1)
    distance = ((normal * stretch) ** 2).sum(-1)
    constant = (
        math.lgamma((FREEDOM + size) / 2)
        - math.lgamma(FREEDOM / 2)
        - 0.5 * size * math.log(FREEDOM * math.pi)
    )
    determinant = np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(-1)
    density = constant - determinant[:, None] - 0.5 * (FREEDOM + size) * np.log1p(distance / FREEDOM)
    return points, density
