"""Functions of the user as polynomials: compiled values, and where one may stand for the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.native_observations import linearise
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.closed.nearly_linear import around
from beliefstream.inference.update.closed.polynomials import are_near, with_polynomials

# 0.7 u₁² + 0.4 u₁ u₂ - u₂ + 2, which is its own polynomial
SQUARE = sensors.function(
    lambda u: 0.7 * u[0] ** 2 + 0.4 * u[0] * u[1] - u[1] + 2, [0, 2], 3, 0.5, origin=[1.0, -2.0]
)
CUBE = sensors.function(lambda u: u[0] ** 3, [1], 3, 0.5)
SPEED = sensors.speed([0, 1], 3, 0.2)


def observed() -> Observations:
    """A square, a cube and a built-in sensor of one entity, a square of the other."""
    rows = [[(SQUARE, 4.0), (CUBE, 0.3), (SPEED, 1.0)], [(SQUARE, -1.0)]]
    return encode([[Reading(sensor, np.array([value])) for sensor, value in row] for row in rows], 3)


def states(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_compiled_values_and_derivatives_are_those_of_the_polynomial_by_hand() -> None:
    at, there = states([0.5, 2.0, 1.0], [0.0, 0.0, 0.0]), states([1.5, 2.5, -1.0], [3.0, 1.0, 2.0])
    known = with_polynomials(observed(), at)
    assert not known.has_own_functions
    off = known.difference(there[:, None])[:, 0]
    for entity, reported in ((0, 4.0), (1, -1.0)):
        first, second = (float(there[entity, 0]) - 1.0, float(there[entity, 2]) + 2.0)
        value = 0.7 * first**2 + 0.4 * first * second - second + 2
        assert float(off[entity, 0]) == pytest.approx(reported - value, rel=1e-12)
    cube = 2.0**3 + 3 * 2.0**2 * 0.5 + 3 * 2.0 * 0.5**2
    assert float(off[0, 1]) == pytest.approx(0.3 - cube, rel=1e-12)
    gradient = linearise(known.numbers, there[:, None], torch.eye(3).double().expand(2, 1, 3, 3))[3]
    slope = 3 * 2.0**2 + 6 * 2.0 * 0.5
    assert float(gradient[0, 0, 1, 1].abs()) == pytest.approx(slope / 0.5, rel=1e-9)


def test_they_stand_for_functions_without_a_third_order_and_for_no_others() -> None:
    observations = observed()
    mean = states([1.0, 0.5, 0.0], [1.0, 0.5, 0.0])
    wide = GaussianMixture.gaussian(mean, 4 * torch.eye(3).double().expand(2, 3, 3))
    narrow = GaussianMixture.gaussian(mean, 1e-4 * torch.eye(3).double().expand(2, 3, 3))
    known = with_polynomials(observations, mean)
    for mixture, expected in ((wide, [False, True]), (narrow, [True, True])):
        near = are_near(known, observations, around(mixture, observations), mixture.present)
        assert near.tolist() == expected


def test_an_absent_component_does_not_matter() -> None:
    observations, mean = observed(), states([1.0, 0.5, 0.0], [1.0, 0.5, 0.0])
    two = GaussianMixture.gaussian(mean, 1e-4 * torch.eye(3).double().expand(2, 3, 3)).padded(2)
    points = around(two, observations)
    points[:, 1] = math.nan
    assert are_near(with_polynomials(observations, mean), observations, points, two.present).all()
