"""The classical filters under any motion: exact where it is linear, near the exact moments where it turns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import ConstantVelocity, Control, CoordinatedTurn, Unicycle
from beliefstream.streams.scores.filters import ExtendedKalmanFilter, IteratedKalmanFilter, ParticleFilter
from tests.inference.plain_models import assert_near, generator, numbers, random_covariances, random_normal

KALMAN = [ExtendedKalmanFilter, IteratedKalmanFilter]
ODOMETRY = Control(
    numbers(0.3, 0.2)[None], torch.diag(numbers(0.05, 0.1)).square()[None]
)  # m/s, rad/s, and their errors


def interval(*seconds: float) -> Tensor:
    return numbers(*seconds)


@pytest.mark.parametrize("filter_type", KALMAN)
def test_a_linear_motion_under_a_control_is_exact(
    filter_type: type[ExtendedKalmanFilter | IteratedKalmanFilter],
) -> None:
    motion = ConstantVelocity((0, 1), (2, 3), 0.3, controlled=True)
    control = Control(random_normal(1, 2, 2), random_covariances(2, 2, dimension=2))
    mean, covariance = random_normal(3, 2, 4), random_covariances(4, 2, dimension=4)
    belief = filter_type(mean, covariance)
    belief.move(motion, interval(0.5, 2.0), control)
    exact = motion.predict(GaussianMixture.gaussian(mean, covariance), interval(0.5, 2.0), control)
    assert_near(belief.mean, exact.means[:, 0], 1e-10)
    assert_near(belief.covariance, exact.covariances[:, 0], 1e-10)


@pytest.mark.parametrize("filter_type", KALMAN)
@pytest.mark.parametrize("spread", [0.02, 0.1])
def test_a_turning_motion_is_near_its_exact_moments(
    filter_type: type[ExtendedKalmanFilter | IteratedKalmanFilter], spread: float
) -> None:
    motion = Unicycle(heading_density=0.01, position_density=0.001)
    mean, covariance = numbers(3.0, -1.0, 2.9)[None], spread**2 * random_covariances(5, 1, dimension=3)
    belief = filter_type(mean, covariance)
    belief.move(motion, interval(2.0), ODOMETRY)
    exact = motion.predict(GaussianMixture.gaussian(mean, covariance), interval(2.0), ODOMETRY)
    # what is left out is of second order in the spread of the heading
    assert_near(belief.mean, exact.means[:, 0], 2 * spread**2 + 1e-3)
    assert_near(belief.covariance, exact.covariances[:, 0], 2 * spread**2 + 2e-3)


def test_the_extended_filter_uses_the_jacobian_at_its_mean() -> None:
    mean, covariance = numbers(0.0, 0.0, 0.4)[None], random_covariances(6, 1, dimension=3)
    belief = ExtendedKalmanFilter(mean, covariance)
    belief.move(Unicycle(), interval(2.0), Control(numbers(1.5, 0.0)[None], torch.zeros(1, 2, 2)))
    slope = torch.eye(3, dtype=torch.float64)
    slope[0, 2], slope[1, 2] = -3.0 * math.sin(0.4), 3.0 * math.cos(0.4)  # 3 m straight on
    assert_near(belief.mean[0], numbers(3.0 * math.cos(0.4), 3.0 * math.sin(0.4), 0.4), 1e-9)
    assert_near(belief.covariance, slope @ covariance @ slope.T, 1e-6)


def test_particles_move_as_the_motion_samples_them() -> None:
    motion = CoordinatedTurn(acceleration_density=0.1, turn_rate_density=0.01)
    mean, covariance = random_normal(7, 2, 5), 0.2 * random_covariances(8, 2, dimension=5)
    prior = GaussianMixture.gaussian(mean, covariance)
    belief = ParticleFilter(prior, 40_000, generator(1))
    belief.move(motion, interval(0.5, 1.5))
    exact_mean, exact = motion.predict(prior, interval(0.5, 1.5)).moments()
    found_mean, found = belief.density().moments()
    torch.testing.assert_close(found_mean, exact_mean, rtol=0, atol=0.04)
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.05)


def test_no_time_changes_nothing() -> None:
    mean, covariance = random_normal(9, 1, 3), random_covariances(10, 1, dimension=3)
    for filter_type in KALMAN:
        belief = filter_type(mean, covariance)
        belief.move(Unicycle(heading_density=0.1), interval(0.0), ODOMETRY)
        assert_near(belief.mean, mean, 1e-9)
        assert_near(belief.covariance, covariance, 1e-6)
