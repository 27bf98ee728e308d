"""Task 3: range and bearing of a moving target (arXiv 2502.02463, section 4.3.1), and its exact filter in NumPy.

The state is (px, vx, py, vy). Each axis moves by F = [[1, .6321], [0, .3679]] with one noise of gain (.1, .2). The
range sensor reports .7 N(r, (.1 (r + 1))²) + .2 Exp(1) + .1 U(0, 20), clamped to [0, 20]. The bearing is
atan2(px, py) + N(0, .1²), wrapped.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from research.paper.exact.grids import Array
from research.paper.exact.particles import (
    LOG_TAU,
    as_gaussian,
    as_kernels,
    gaussian_log_density,
    log_sum,
    normalised,
    resampled,
)

AXIS = np.array([[1.0, 0.6321], [0.0, 0.3679]])
GAIN = np.array([0.1, 0.2])
MOTION = np.kron(np.eye(2), AXIS)
GAINS = np.kron(np.eye(2), GAIN[:, None])  # (4, 2)
NOISE = GAINS @ GAINS.T
START = np.array([1.0, 0.0, 1.0, 0.0])
FAR = 20.0  # largest range
BEARING = 0.1  # standard deviation, rad
SHARES = (0.7, 0.2, 0.1)  # of a right range, of an exponential one, and of a uniform one


class Series(NamedTuple):
    """States ``(S, T, 4)`` and reports ``(S, T, 2)`` of range and bearing."""

    states: Array
    reports: Array


class Exact(NamedTuple):
    """Log densities of the true states ``(S, T)``: of the exact filter, and of its particles in two other forms."""

    exact: Array
    gaussian: Array
    kernels: Array


def simulate(series: int, steps: int, seed: int) -> Series:
    """Draw series of states and reports."""
    numbers = np.random.default_rng(seed)
    state = START + numbers.normal(size=(series, 4))
    states, reports = [], []
    for step in range(steps):
        if step:
            state = state @ MOTION.T + numbers.normal(size=(series, 2)) @ GAINS.T
        states.append(state)
        reports.append(report(state, numbers))
    return Series(np.stack(states, 1), np.stack(reports, 1))


def report(state: Array, numbers: np.random.Generator) -> Array:
    """Draw range and bearing ``(S, 2)`` of states ``(S, 4)``."""
    distance = np.hypot(state[:, 0], state[:, 2])
    size = len(state)
    kind = numbers.choice(3, size=size, p=SHARES)
    right = distance + 0.1 * (distance + 1) * numbers.normal(size=size)
    wrong = np.where(kind == 1, numbers.exponential(size=size), numbers.uniform(0, FAR, size=size))
    angle = np.arctan2(state[:, 0], state[:, 2]) + BEARING * numbers.normal(size=size)
    return np.stack([np.where(kind == 0, right, wrong).clip(0, FAR), wrapped(angle)], 1)


def wrapped(angle: Array) -> Array:
    """Wrap angles to [−π, π)."""
    return np.asarray((angle + math.pi) % (2 * math.pi) - math.pi)


def log_likelihood(states: Array, reports: Array) -> Array:
    """Return log p(report | state) for states ``(S, N, 4)`` and reports ``(S, 2)``.

    A clamped range of 0 or 20 has a probability, and not a density.
    """
    distance = np.hypot(states[..., 0], states[..., 2])
    deviation = 0.1 * (distance + 1)
    seen = reports[:, :1]
    right, exponential, uniform = SHARES
    density = right * np.exp(-0.5 * ((seen - distance) / deviation) ** 2 - 0.5 * LOG_TAU) / deviation
    density = density + exponential * np.exp(-seen) + uniform / FAR
    for row in np.nonzero(seen[:, 0] <= 0)[0]:
        density[row] = right * below(-distance[row] / deviation[row])
    for row in np.nonzero(seen[:, 0] >= FAR)[0]:
        density[row] = right * below((distance[row] - FAR) / deviation[row]) + exponential * math.exp(-FAR)
    turn = wrapped(reports[:, 1:] - np.arctan2(states[..., 0], states[..., 2])) / BEARING
    return np.asarray(np.log(np.maximum(density, 1e-300)) - 0.5 * turn**2 - math.log(BEARING) - 0.5 * LOG_TAU)


def below(value: Array) -> Array:
    """Return the normal distribution function."""
    return np.asarray(np.vectorize(math.erfc)(-value / math.sqrt(2)) / 2)


def filtered(series: Series, count: int, seed: int) -> Exact:
    """Filter with `count` particles a series, and return log densities of the true states.

    The noise of one step has rank 2, that of two steps rank 4. So p(x_t | reports) is a sum over particles of t − 2
    with the state between in closed form: there is no kernel and no bandwidth.
    """
    numbers = np.random.default_rng(seed)
    states, reports = series
    points = START + numbers.normal(size=(len(states), count, 4))
    found: list[tuple[Array, Array, Array]] = []
    past: list[tuple[Array, Array]] = []  # particles and log weights of the last steps
    evidence: list[Array] = []
    for step in range(states.shape[1]):
        truth, seen = states[:, step], reports[:, step]
        logs = log_likelihood(points, seen)
        evidence.append(log_sum(logs) - math.log(count))
        weights = normalised(logs)
        exact = _exact(step, series, past, evidence, numbers, count)
        found.append((exact, as_gaussian(points, weights, truth), as_kernels(points, weights, truth)))
        past = [*past[-1:], (points, logs - log_sum(logs)[:, None])]
        points = resampled(points, weights, numbers) @ MOTION.T
        points = points + numbers.normal(size=(*points.shape[:2], 2)) @ GAINS.T
    return Exact(*(np.stack(column, 1) for column in zip(*found, strict=True)))


def _exact(
    step: int,
    series: Series,
    past: list[tuple[Array, Array]],
    evidence: list[Array],
    numbers: np.random.Generator,
    count: int,
) -> Array:
    """Return log p(x_t | reports up to t) at the true states of a step ``(S,)``."""
    truth = series.states[:, step]
    now = log_likelihood(truth[:, None], series.reports[:, step])[:, 0] - evidence[-1]
    if step == 0:
        return np.asarray(now + gaussian_log_density(truth, START, np.eye(4)))
    before = series.reports[:, step - 1]
    if step == 1:
        # x₁ = F x₀ + G n: the average over n of the density of x₀
        noise = numbers.normal(size=(len(truth), count, 2)) @ GAINS.T
        first = (truth[:, None] - noise) @ np.linalg.inv(MOTION).T
        logs = gaussian_log_density(first, START, np.eye(4)) + log_likelihood(first, before)
        inner = log_sum(logs) - math.log(count) - math.log(abs(np.linalg.det(MOTION)))
        return np.asarray(now + inner - evidence[-2])
    points, log_weights = past[-2]
    gains = np.concatenate([MOTION @ GAINS, GAINS], 1)  # of the noises of both steps
    noise = (truth[:, None] - points @ (MOTION @ MOTION).T) @ np.linalg.inv(gains).T
    between = points @ MOTION.T + noise[..., :2] @ GAINS.T
    logs = -0.5 * (noise**2).sum(-1) - 2 * LOG_TAU - math.log(abs(np.linalg.det(gains)))
    inner = log_sum(logs + log_weights + log_likelihood(between, before))
    return np.asarray(now + inner - evidence[-2])
