"""Quadrature along one bent observation in space against dense sums over a grid, and where it is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.curved import follow
from beliefstream.inference.update.result import Update
from beliefstream.inference.update.settings import UpdateSettings
from tests.inference.plane_problems import NOISE, OUTLIERS, SPAN, either, read, two_components
from tests.inference.update.plane.test_single_observation import assert_exact
from tests.inference.update.test_quadrature import Array, exact


def answer(prior: GaussianMixture, observations: Observations) -> Update | None:
    posed = pose(prior, observations, math.inf)
    everything = torch.ones(prior.batch, dtype=torch.bool)
    found = list(follow(posed.scaled, posed.touched, everything, UpdateSettings()))
    return found[0][1] if found else None


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("outliers", [0.0, OUTLIERS])
def test_a_range_gets_exact_moments_in_the_plane_and_in_space(outliers: float, size: int) -> None:
    away, value, spread = 25.0, 25.6, 0.8
    prior, anchor = two_components(spread, size), [-away, *[0.0] * (size - 1)]
    sensor = sensors.range_to([*range(size)], size, anchor, NOISE, outliers, SPAN)
    found = answer(prior, read(sensor, value, size))

    def log_likelihood(points: Array) -> Array:
        off = (value - np.linalg.norm(points - np.array(anchor), axis=1)) / NOISE
        return either(off, NOISE, outliers, SPAN)

    assert found is not None
    assert_exact(found, exact(prior, log_likelihood, {2: 301, 3: 121}[size]))


@pytest.mark.parametrize("away", [0.0, 1.0, 4.0])
def test_a_sensor_that_may_lie_on_either_side_is_refused(away: float) -> None:
    """The posterior may have a part beyond the sensor, which nodes on one side do not see."""
    sensor = sensors.range_to([0, 1, 2], 3, [-away, 0.0, 0.0], NOISE)
    assert answer(two_components(1.0, 3), read(sensor, away + 0.3, 3)) is None


def test_the_other_side_of_a_sphere_may_be_near_although_the_sensor_is_far() -> None:
    """Two coordinates are known, as of a vehicle on a line beside an anchor; the other side has .3 % of the mass.

    The sensor is 176 deviations away if they are counted along the direction to it, but the sphere turns back at 1.35.
    """
    mean, spread = torch.tensor([[1.35, 0.0, 0.0]]).double(), torch.diag(torch.tensor([1.0, 1e-4, 1e-4]))
    sensor = sensors.range_to([0, 1, 2], 3, [0.0, 15.4, 0.0], 0.0216)
    observations = read(sensor, math.hypot(15.4, 2.2), 3)
    assert answer(GaussianMixture.gaussian(mean, spread.double()[None]), observations) is None


def test_a_component_beyond_the_sensor_is_not_forgotten_for_its_small_weight() -> None:
    """A weight of 1e-9 beside a range that only this component explains."""
    means = torch.tensor([[[0.0, 0.0, 0.0], [40.0, 0.0, 0.0]]], dtype=torch.float64)
    covariances = torch.eye(3).double().expand(1, 2, 3, 3)
    weights = torch.tensor([[1 - 1e-9, 1e-9]], dtype=torch.float64)
    prior = GaussianMixture.from_weights(weights, means, covariances)
    sensor = sensors.range_to([0, 1, 2], 3, [-60.0, 0.0, 0.0], NOISE)
    assert answer(prior, read(sensor, 100.0, 3)) is None
