"""The oracle's likelihoods beside the library's: two programs for one documentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood.noise import Exponential, Noise, Uniform
from beliefstream.inference.sensors import bearing, heading, position, range_to, relative_bearing
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from research.evaluation.adversarial.families import FAMILIES, problems
from research.evaluation.adversarial.likelihood import Array, Seen, seen
from research.evaluation.adversarial.problems import Problem


def both(problem: Problem, count: int = 200) -> tuple[Array, Array]:
    """Log likelihoods ``(N, count)`` of the oracle and the library at states of the prior, where a report may be true.

    Further off the library may bound what it says; there both are zero.
    """
    states = np.random.default_rng(2).normal(0, 1, (count, problem.dimension))
    states = problem.prior.means[0] + states @ np.linalg.cholesky(problem.prior.covariances[0]).T
    axes, oracle = list(range(problem.dimension)), []
    for reading in problem.readings:
        (sensor,) = seen([reading], axes)
        oracle.append(sensor.log_likelihood(sensor.predictions(states.T)))
    observations = encode([list(problem.readings)], problem.dimension)
    library = observations.residuals(torch.from_numpy(states)[None]).log_likelihood[0].numpy().T
    found = np.array(oracle)
    # no higher than where a report fits exactly: half of thirty deviations, in nats
    near = found > -observations.log_normaliser[0].numpy()[:, None] - 18
    return np.where(near, found, 0.0), np.where(near, library[: len(found)], 0.0)


@pytest.mark.parametrize("family", [*FAMILIES])
def test_the_library_says_the_same_where_it_counts(family: str) -> None:
    for problem in problems(family, 3, 11):
        oracle, library = both(problem)
        assert np.allclose(oracle, library, rtol=2e-4, atol=2e-4)


CALIBRATED: list[Sensor] = [
    range_to((0, 1), 2, [1, 2], 0.3, 0.1, 30.0, scale=1.2, bias=-0.4),
    range_to(
        (0, 1), 2, [1, 2], 0.3, 0.1, scale=1.2, noise=Noise((0.7, 0.3), (0.0, 1.0), (1.0, 3.0), slope=0.1)
    ),
    range_to(
        (0, 1), 2, [1, 2], 0.3, noise=Noise(clutter=((0.2, Exponential(2.0)), (0.1, Uniform(0.0, 9.0))))
    ),
    bearing((0, 1), 2, [1, 2], 0.3, 0.05, scale=-1.0, bias=1.5),
    bearing((0, 1), 2, [1, 2], 0.3, noise=Noise((0.5, 0.5), (0.0, 0.5), (1.0, 2.0))),
    relative_bearing((0, 1), 2, 3, [1, 2], 0.9),
    heading(1, 2, 0.3, 0.02),
    position((1, 0), 2, [[0.3, 0.1], [0.1, 0.2]], 0.1, scale=2.0, bias=0.3),
]


@pytest.mark.parametrize("sensor", CALIBRATED)
def test_calibration_noise_and_outliers_mean_the_same(sensor: Sensor) -> None:
    generator, size = np.random.default_rng(4), sensor.dimension
    value = generator.uniform(0.5, 2.0, sensor.value_length)
    prior = problems("planar", 1, 0)[0].prior._replace(
        weights=np.ones(1), means=np.zeros((1, size)), covariances=np.eye(size)[None]
    )
    oracle, library = both(Problem("", prior, (Reading(sensor, value),)))
    assert np.allclose(oracle, library, atol=1e-5)


def test_many_reports_of_one_sensor_are_as_if_one_by_one() -> None:
    sensor = range_to((0, 1), 2, [1, 2], 0.3)
    values = np.random.default_rng(5).normal(2, 1, (7, 1))
    points = np.random.default_rng(6).normal(0, 1, (2, 20))
    together = Seen(sensor, values, np.tile(sensor.covariance, (7, 1, 1)), [0, 1])
    one_by_one = [Seen(sensor, value[None], sensor.covariance[None], [0, 1]) for value in values]
    expected = sum(one.log_likelihood(one.predictions(points)) for one in one_by_one)
    assert np.allclose(together.log_likelihood(together.predictions(points)), expected)


def test_widening_is_the_average_over_a_cell() -> None:
    # a Gaussian prediction error of that deviation, folded in exactly
    sensor = range_to((0, 1), 2, [0, 0], 0.3)
    one = Seen(sensor, np.array([[2.0]]), sensor.covariance[None], [0, 1])
    h, spread = np.array([[1.5]]), np.array([[0.4]])
    offsets = np.random.default_rng(7).normal(0, 0.4, 200_000)
    average = np.log(np.exp(one.log_likelihood(h + offsets[None])).mean())
    assert one.log_likelihood(h, spread)[0] == pytest.approx(average, abs=0.01)


@pytest.mark.parametrize(
    "sensor", [each for each in CALIBRATED if each.noise is None or not each.noise.slope]
)
def test_no_prediction_within_reach_is_likelier_than_the_bound(sensor: Sensor) -> None:
    generator, count = np.random.default_rng(8), sensor.value_length
    values = generator.uniform(0.5, 2.0, (5, count))
    several = Seen(sensor, values, np.tile(sensor.covariance, (5, 1, 1)), list(range(sensor.dimension)))
    h, reach = generator.uniform(0.5, 2.0, (count, 40)), generator.uniform(0.0, 0.5, (count, 40))
    bound = several.log_bound(h, reach)
    for _ in range(50):
        inside = h + reach * generator.uniform(-1, 1, h.shape)
        assert (several.log_likelihood(inside) <= bound + 1e-9).all()
    one = Seen(sensor, values[:1], sensor.covariance[None], list(range(sensor.dimension)))
    assert np.allclose(one.log_bound(h, 0 * reach), one.log_likelihood(h))
