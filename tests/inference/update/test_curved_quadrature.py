"""Quadrature along one bent observation against dense sums over a grid, and where it is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update.curved_quadrature import follow
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.scaled_problem import pose
from beliefstream.inference.update.settings import UpdateSettings
from tests.inference.update.test_native_closed_forms import only_operators
from tests.inference.update.test_quadrature import Array, Exact, exact

NOISE, OUTLIERS, SPAN = 0.3, 0.2, 60.0


def answer(prior: GaussianMixture, observations: Observations) -> Update | None:
    posed = pose(prior, observations, math.inf)
    everything = torch.ones(prior.batch, dtype=torch.bool)
    found = list(follow(posed.scaled, posed.touched, everything, UpdateSettings()))
    return found[0][1] if found else None


def two_components(spread: float, size: int = 2) -> GaussianMixture:
    """Correlated ones side by side."""
    root = torch.eye(size).double() + 0.4 * torch.ones(size, size).double().tril(-1)
    covariance = spread**2 * (root @ root.mT)
    means = torch.zeros(1, 2, size, dtype=torch.float64)
    means[0, 1, :2] = torch.tensor([1.5, -0.7]) * spread
    weights = torch.tensor([[0.7, 0.3]], dtype=torch.float64)
    return GaussianMixture.from_weights(weights, means, covariance.expand(1, 2, size, size))


def read(sensor: Sensor, value: float, size: int = 2) -> Observations:
    return encode([[Reading(sensor, np.array([value]))]], size)


def distance_likelihood(points: Array, away: float, value: float, outliers: float) -> Array:
    off = (value - np.hypot(points[:, 0] + away, points[:, 1])) / NOISE
    return either(off, NOISE, outliers, SPAN)


def either(off: Array, noise: float, outliers: float, span: float) -> Array:
    """Log likelihood of a residual in units of the noise, of an inlier or an outlier."""
    inlier = math.log1p(-outliers) - 0.5 * off**2 - math.log(noise * math.sqrt(2 * math.pi))
    outlier = math.log(outliers / span) if outliers else -math.inf
    return np.asarray(np.logaddexp(inlier, outlier))


def assert_exact(found: Update, grid: Exact, tolerance: float = 2e-4) -> None:
    assert found.method.tolist() == [Method.QUADRATURE]
    assert float(found.log_evidence[0]) == pytest.approx(grid.log_evidence, abs=tolerance)
    mean, covariance = (part[0].numpy() for part in found.posterior.moments())
    scale = math.sqrt(np.trace(grid.covariance))
    np.testing.assert_allclose(mean, grid.mean, atol=2 * tolerance * scale)
    np.testing.assert_allclose(covariance, grid.covariance, atol=5 * tolerance * scale**2)
    true = grid.divergence(found.posterior)
    assert float(found.divergence[0]) == pytest.approx(true, rel=0.3, abs=1e-4)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("outliers", [0.0, OUTLIERS])
@pytest.mark.parametrize(
    ("spread", "away"), [(0.3, 40.0), (1.0, 20.0), (2.0, 30.0), (2.0, 60.0), (3.0, 120.0)]
)
def test_a_range_sharper_than_the_prior_gets_exact_moments(
    spread: float, away: float, outliers: float, native: bool
) -> None:
    prior, value = two_components(spread), away + 0.8 * spread
    sensor = sensors.range_to([0, 1], 2, [-away, 0.0], NOISE, outliers, SPAN)
    grid = exact(prior, lambda points: distance_likelihood(points, away, value, outliers), 601)
    if native:
        found = answer(prior, read(sensor, value))
    else:
        with only_operators():
            found = answer(prior, read(sensor, value))
    assert found is not None
    assert_exact(found, grid)


@pytest.mark.parametrize(("outliers", "value"), [(0.0, 0.1), (0.1, 0.1), (0.1, 0.35)])
def test_a_bearing_gets_exact_moments(outliers: float, value: float) -> None:
    noise, away = 0.03, 20.0
    prior = two_components(1.5)
    sensor = sensors.bearing([0, 1], 2, [-away, 0.0], noise, outlier_probability=outliers)

    def log_likelihood(points: Array) -> Array:
        off = (value - np.arctan2(points[:, 1], points[:, 0] + away)) / noise
        return either(off, noise, outliers, 2 * math.pi)

    found = answer(prior, read(sensor, value))
    assert found is not None
    assert_exact(found, exact(prior, log_likelihood, 601))


def test_a_bearing_from_the_other_side_is_an_outlier() -> None:
    prior = two_components(1.5)
    sensor = sensors.bearing([0, 1], 2, [-20.0, 0.0], 0.03, outlier_probability=0.1)
    found = answer(prior, read(sensor, 3.0))
    assert found is not None
    assert float(found.log_evidence[0]) == pytest.approx(math.log(0.1 / (2 * math.pi)), abs=1e-9)
    for part, before in zip(found.posterior.moments(), prior.moments(), strict=True):
        torch.testing.assert_close(part, before, rtol=1e-9, atol=1e-9)


def test_a_range_in_space_gets_exact_moments() -> None:
    away, value, spread = 25.0, 25.6, 0.8
    prior = two_components(spread, 3)
    found = answer(prior, read(sensors.range_to([0, 1, 2], 3, [-away, 0.0, 0.0], NOISE), value, 3))

    def log_likelihood(points: Array) -> Array:
        off = (value - np.linalg.norm(points + np.array([away, 0, 0]), axis=1)) / NOISE
        return np.asarray(-0.5 * off**2 - math.log(NOISE * math.sqrt(2 * math.pi)))

    assert found is not None
    assert_exact(found, exact(prior, log_likelihood, 121))


def test_coordinates_that_the_sensor_does_not_touch_follow_by_regression() -> None:
    """The state has velocities too; given the position, they are Gaussian with a mean that is linear in it."""
    away, value, covariance = 30.0, 31.0, np.array([[2.0, 0.3, 1.1, 0.0], [0.3, 1.5, 0.0, 0.8]])
    whole = np.block([[covariance], [covariance[:, 2:].T, np.diag([0.9, 0.7])]])
    prior = GaussianMixture.gaussian(torch.zeros(1, 4).double(), torch.from_numpy(whole)[None])
    found = answer(prior, read(sensors.range_to([0, 1], 4, [-away, 0.0], NOISE), value, 4))

    grid = exact(prior.marginal([0, 1]), lambda points: distance_likelihood(points, away, value, 0.0), 801)
    gain = whole[2:, :2] @ np.linalg.inv(whole[:2, :2])
    assert found is not None
    mean, spread = (part[0].numpy() for part in found.posterior.moments())
    np.testing.assert_allclose(mean[2:], gain @ grid.mean, atol=1e-4)
    rest = whole[2:, 2:] - gain @ whole[:2, 2:]
    np.testing.assert_allclose(spread[2:, 2:], rest + gain @ grid.covariance @ gain.T, atol=2e-4)
    np.testing.assert_allclose(spread[2:, :2], gain @ grid.covariance, atol=2e-4)


@pytest.mark.parametrize("away", [0.0, 1.0, 4.0])
def test_a_sensor_that_may_lie_on_either_side_is_refused(away: float) -> None:
    """The posterior may have a part beyond the sensor, which nodes on one side do not see."""
    sensor = sensors.range_to([0, 1], 2, [-away, 0.0], NOISE)
    assert answer(two_components(1.0), read(sensor, away + 0.3)) is None


@pytest.mark.parametrize("native", [True, False])
def test_the_other_side_of_a_ring_may_be_near_although_the_sensor_is_far(native: bool) -> None:
    """One coordinate is known, as of a vehicle on a line beside an anchor; the other side has .3 % of the mass.

    The sensor is 176 deviations away if they are counted along the direction to it, but the ring turns back at 1.35.
    """
    mean, covariance = torch.tensor([[1.35, 0.0]]).double(), torch.diag(torch.tensor([1.0, 1e-4])).double()
    sensor = sensors.range_to([0, 1], 2, [0.0, 15.4], 0.0216)
    observations = read(sensor, math.hypot(15.4, 2.2))
    prior = GaussianMixture.gaussian(mean, covariance[None])
    if native:
        assert answer(prior, observations) is None
    else:
        with only_operators():
            assert answer(prior, observations) is None


def test_a_component_beyond_the_sensor_is_not_forgotten_for_its_small_weight() -> None:
    """A weight of 1e-9 beside a range that only this component explains."""
    means = torch.tensor([[[0.0, 0.0], [40.0, 0.0]]], dtype=torch.float64)
    covariances = torch.eye(2).double().expand(1, 2, 2, 2)
    weights = torch.tensor([[1 - 1e-9, 1e-9]], dtype=torch.float64)
    prior = GaussianMixture.from_weights(weights, means, covariances)
    assert answer(prior, read(sensors.range_to([0, 1], 2, [-60.0, 0.0], NOISE), 100.0)) is None


def test_many_weak_ranges_leave_no_drift() -> None:
    """A hundred and twenty readings of a still target, one after another, against all at once on a grid."""
    generator = np.random.default_rng(5)
    origins = [[-9.0, 0.0], [0.0, -10.0], [8.0, -8.0]]
    belief, truth = two_components(1.0), np.array([0.4, -0.3])
    start, total = belief, []
    for turn in range(120):
        origin = origins[turn % 3]
        value = float(np.hypot(*(truth - origin)) + 2.0 * generator.normal())
        total.append((origin, value))
        found = answer(belief, read(sensors.range_to([0, 1], 2, origin, 2.0), value))
        assert found is not None
        belief = found.posterior

    def log_likelihood(points: Array) -> Array:
        offs = [(value - np.hypot(*(points - origin).T)) / 2.0 for origin, value in total]
        return np.asarray(-0.5 * np.square(offs).sum(0))

    grid = exact(start, log_likelihood, 281)
    assert grid.divergence(belief) < 0.01
