"""The iterated extended Kalman filter: exact where it can be, at the mode elsewhere, and never uphill."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters import ExtendedKalmanFilter, IteratedKalmanFilter
from tests.inference.plain_models import (
    Sensor,
    assert_near,
    bearing,
    distance,
    fixed_step,
    generator,
    linear,
    numbers,
    observe,
    random_covariances,
    random_normal,
)
from tests.research.evaluation.baselines.exact_plane import Raster


def cost(mean: Tensor, covariance: Tensor, sensors: list[Sensor], state: Tensor) -> Tensor:
    """Minus the log posterior density but for a constant, written out."""
    offset = state - mean
    total: Tensor = 0.5 * offset @ torch.linalg.solve(covariance, offset)
    for sensor in sensors:
        residual = sensor.value - sensor.predict(state)
        if sensor.kind == 2:
            residual = (residual + math.pi) % (2 * math.pi) - math.pi
        total = total + 0.5 * (residual / sensor.noise).square().sum()
    return total


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_with_linear_sensors_it_is_the_kalman_filter(dimension: int) -> None:
    mean, covariance = random_normal(1, 2, dimension), random_covariances(2, 2, dimension=dimension)
    sensors = [
        linear(random_normal(3 + n, n, dimension), random_normal(7 + n, n), 0.3 * n)
        for n in range(1, dimension + 1)
    ]
    belief = IteratedKalmanFilter(mean, covariance)
    belief.update(observe(sensors, sensors[:1]))  # the second entity has one observation only
    for row, seen in enumerate((sensors, sensors[:1])):
        precision = torch.linalg.inv(covariance[row])
        total = precision @ mean[row]
        for sensor in seen:
            precision = precision + sensor.matrix.mT @ sensor.matrix / sensor.noise**2
            total = total + sensor.matrix.mT @ sensor.value / sensor.noise**2
        assert_near(belief.mean[row], torch.linalg.solve(precision, total), 1e-9)
        assert_near(belief.covariance[row], torch.linalg.inv(precision), 1e-9)


def test_a_linear_chain_is_that_of_the_plain_filter() -> None:
    motion = fixed_step(numbers(1.0, 0.5, 0.0, 0.9).view(2, 2), random_covariances(1, dimension=2))
    start = random_covariances(2, 1, dimension=2)
    plain = ExtendedKalmanFilter(torch.zeros(1, 2), start, gate=None)
    belief = IteratedKalmanFilter(torch.zeros(1, 2), start)
    for value in random_normal(3, 8):
        observations = observe([linear(numbers(1.0, 0.3)[None], value[None], 0.4)])
        for one in (plain, belief):
            one.move(motion, torch.ones(1))
            one.update(observations)
    assert_near(belief.mean, plain.mean, 1e-9)
    assert_near(belief.covariance, plain.covariance, 1e-9)


def test_it_is_at_the_mode_of_all_observations_together() -> None:
    mean, covariance = numbers(0.2, 0.1), random_covariances(1, dimension=2)
    sensors = [distance(numbers(3.0, -2.0), 4.6, 0.1), bearing(numbers(-2.0, 1.0), -0.4, 0.05)]
    belief = IteratedKalmanFilter(mean[None], covariance[None])
    assert belief.update(observe(sensors)).tolist() == [[True, True]]
    slope = torch.func.grad(lambda state: cost(mean, covariance, sensors, state))(belief.mean[0])
    torch.testing.assert_close(slope, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-4)
    precision = torch.linalg.inv(covariance)
    for sensor in sensors:
        row = torch.func.jacrev(sensor.predict)(belief.mean[0]) / sensor.noise
        precision = precision + row.mT @ row
    assert_near(belief.covariance[0], torch.linalg.inv(precision), 1e-6)


def test_where_the_posterior_is_nearly_gaussian_it_is_that_of_a_raster() -> None:
    prior = GaussianMixture.gaussian(numbers(0.5, -0.5)[None], 4 * torch.eye(2, dtype=torch.float64)[None])
    sensors = [
        distance(numbers(30.0, -20.0), 37.0, 0.3),
        bearing(numbers(-40.0, 5.0), -0.1, 0.01),
        distance(numbers(0.0, 45.0), 44.0, 0.5),
    ]
    mean, covariance = Raster(prior, sensors, (0.0, 1.0), 8.0).moments()
    belief = IteratedKalmanFilter(*prior.moments())
    belief.update(observe(sensors))
    deviation = covariance.diagonal().sqrt()
    assert bool(((belief.mean[0] - mean).abs() < 0.03 * deviation).all())
    assert_near(belief.covariance[0], covariance, 0.02 * float(covariance.max()))


def test_a_step_that_would_lead_uphill_is_halved() -> None:
    # seen from close by, the tangent of a sharp range leads far off; whole steps jump to and fro for ever
    mean, covariance = numbers(0.3, 0.0), torch.diag(numbers(4.0, 4.0))
    sensors = [distance(numbers(0.0, 0.0), 6.0, 0.05), distance(numbers(0.0, 8.0), 4.0, 0.05)]
    belief = IteratedKalmanFilter(mean[None], covariance[None])
    belief.update(observe(sensors))
    found = cost(mean, covariance, sensors, belief.mean[0])
    slope = torch.func.grad(lambda state: cost(mean, covariance, sensors, state))(belief.mean[0])
    deviation = belief.covariance[0].diagonal().sqrt()
    assert float((slope * deviation).abs().max()) < 1e-3
    assert float(found) < float(cost(mean, covariance, sensors, mean))


@pytest.mark.parametrize("seed", range(20))
def test_no_update_ends_higher_than_it_began(seed: int) -> None:
    mean, covariance = random_normal(seed, 2), 9 * random_covariances(seed + 1, dimension=2)
    sensors = [
        distance(2 * random_normal(seed + 2, 2), 1.5, 0.02),
        bearing(2 * random_normal(seed + 3, 2), 2.0, 0.02),
    ]
    belief = IteratedKalmanFilter(mean[None], covariance[None])
    belief.update(observe(sensors))
    before, after = (cost(mean, covariance, sensors, state) for state in (mean, belief.mean[0]))
    assert float(after) <= float(before)


def test_bearings_wrap() -> None:
    belief = IteratedKalmanFilter(numbers(-5.0, 0.1)[None], 0.1 * torch.eye(2)[None])
    belief.update(observe([bearing(numbers(0.0, 0.0), -math.pi + 0.02, 0.02)]))
    assert -0.2 < float(belief.mean[0, 1]) < 0.1  # it moved across the cut, by a tenth and not by a turn
    assert float(belief.mean[0, 0]) == pytest.approx(-5.0, abs=0.05)


def test_it_has_no_gate() -> None:
    belief = IteratedKalmanFilter(torch.zeros(1, 2), torch.eye(2)[None])
    belief.update(observe([linear(torch.eye(2).double(), numbers(100.0, 0.0), 0.1)]))
    assert float(belief.mean[0, 0]) == pytest.approx(100 / 1.01)


def test_entities_do_not_touch_each_other() -> None:
    mean, covariance = random_normal(1, 5, 2), random_covariances(2, 5, dimension=2)
    sensors = [
        [distance(3 * random_normal(n, 2), 2.0, 0.3), bearing(random_normal(9 + n, 2), 0.4, 0.3)]
        for n in range(5)
    ]
    together = IteratedKalmanFilter(mean, covariance)
    together.update(observe(*sensors))
    for row in range(5):
        alone = IteratedKalmanFilter(mean[row : row + 1], covariance[row : row + 1])
        alone.update(observe(sensors[row]))
        assert_near(together.mean[row], alone.mean[0], 1e-4)
        assert_near(together.covariance[row], alone.covariance[0], 1e-4)


def test_an_entity_without_observations_stays_as_it_is() -> None:
    mean, covariance = random_normal(1, 2, 2), random_covariances(2, 2, dimension=2)
    sensor = distance(numbers(3.0, -2.0), 3.2, 0.3)
    observations = observe([sensor], [sensor])
    observations.mask[0] = False
    belief = IteratedKalmanFilter(mean, covariance)
    assert belief.update(observations).tolist() == [[False], [True]]
    assert_near(belief.mean[0], mean[0], 1e-12)
    assert_near(belief.covariance[0], covariance[0], 1e-12)


def test_covariances_stay_positive_definite_under_very_sharp_sensors() -> None:
    belief = IteratedKalmanFilter(torch.zeros(1, 2), 1e6 * torch.eye(2)[None])
    for angle in torch.rand(50, generator=generator(1), dtype=torch.float64):
        row = torch.stack([angle.cos(), angle.sin()])[None]
        belief.update(observe([linear(row, numbers(0.0), 1e-4)]))
    assert bool((torch.linalg.eigvalsh(belief.covariance) > 0).all())


def test_a_coordinate_known_exactly_stays_so() -> None:
    belief = IteratedKalmanFilter(numbers(1.0, 2.0)[None], torch.diag(numbers(4.0, 0.0))[None])
    belief.update(observe([linear(numbers(1.0, 1.0)[None], numbers(7.0), 1.0)]))
    assert_near(belief.mean[0], numbers(1.0 + 4 / 5 * 4, 2.0), 1e-12)
    assert_near(belief.covariance[0], torch.diag(numbers(4 / 5, 0.0)), 1e-12)
