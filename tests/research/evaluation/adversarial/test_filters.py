"""The filters' oracles against the Kalman filter."""

from __future__ import annotations

import numpy as np
import pytest

from beliefstream.inference.sensors import linear
from beliefstream.inference.sensors.readings import Reading
from research.evaluation.adversarial.chains import velocity_step
from research.evaluation.adversarial.filters import Filtered, particles, walk
from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import gaussian
from tests.research.evaluation.adversarial.closed_forms import linear_update


def kalman(
    prior: Mixture,
    rows: list[list[Reading]],
    transition: Array,
    spread: Array,
    intervals: Array | None = None,
) -> tuple[Mixture, float]:
    now, evidence = prior, 0.0
    for step, row in enumerate(rows):
        if step:
            means, interval = now.means @ transition.T, 1.0 if intervals is None else intervals[step - 1]
            now = Mixture(now.weights, means, transition @ now.covariances @ transition.T + interval * spread)
        for reading in row:
            now, told = linear_update(now, reading.sensor.matrix, reading.sensor.covariance, reading.value)
            evidence += told
    return now, evidence


def reports(matrix: list[list[float]], steps: int) -> list[list[Reading]]:
    sensor, values = linear(matrix, [[0.3]]), np.random.default_rng(3).normal(0.0, 0.5, steps)
    return [[Reading(sensor, np.array([value]))] for value in values]


def agree(found: Filtered, closed: Mixture, evidence: float) -> None:
    assert found.log_evidence == pytest.approx(evidence, abs=0.05)
    distance = found.divergence(closed)
    assert abs(distance.value) < 0.02
    wide = Mixture(closed.weights, closed.means, closed.covariances * 2)
    size = closed.means.shape[1]
    assert found.divergence(wide).value == pytest.approx(size / 2 * (np.log(2) - 0.5), abs=0.03)


@pytest.mark.parametrize("times", [np.arange(12.0), np.cumsum([0.0, 9.0, *[0.5] * 10])])
def test_a_random_walk_on_the_grid_is_the_kalman_filter(times: Array) -> None:
    prior, rows = gaussian([0.2, -0.1], 1.0), reports([[1.0, 0.4]], 12)
    for after, found in enumerate(walk(prior, rows, 0.2, times.tolist()), 1):
        agree(found, *kalman(prior, rows[:after], np.eye(2), 0.2**2 * np.eye(2), np.diff(times)))


def test_mass_that_was_nearly_lost_comes_back() -> None:
    # reports jump by 18 deviations; before, the mass there is less than the rounding of the mass at the peak
    sensor = linear(np.eye(2), 0.3**2 * np.eye(2))
    rows = [[Reading(sensor, np.array([x, 0.1]))] for x in [-2.0] * 8 + [3.4] * 3]
    prior = gaussian([-2.0, 0.0], 1.0)
    closed, evidence = kalman(prior, rows, np.eye(2), 0.1**2 * np.eye(2))
    *_, found = walk(prior, rows, 0.1, box=((-6.0, 6.0), (-4.0, 4.0)))
    assert evidence < -100
    agree(found, closed, evidence)


def test_an_entity_at_rest_is_filtered_without_steps() -> None:
    prior, rows = gaussian([0.2, -0.1], 1.0), reports([[1.0, 0.4]], 12)
    *_, found = walk(prior, rows, 0.0)
    agree(found, *kalman(prior, rows, np.eye(2), np.zeros((2, 2))))


def test_particles_are_the_kalman_filter() -> None:
    prior, rows = gaussian([0.2, 0.0], 1.0), reports([[1.0, 0.0]], 12)
    transition, spread = velocity_step(0.1)
    closed, evidence = kalman(prior, rows, transition, spread)
    agree(particles(prior, rows, transition, spread, np.random.default_rng(1)), closed, evidence)
