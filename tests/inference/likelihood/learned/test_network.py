"""A learned likelihood as a function: smooth inside its range, constant outside, and a distance for what is outside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from tests.inference.likelihood.learned.simulators import COUNTER, Clipped, Counter, untrained


def clipped() -> ProblemFunction:
    learned, _ = untrained(Clipped(), "m:Clipped")
    with torch.no_grad():
        for network in learned.networks:
            list(network.parameters())[-2].mul_(20)  # the last weights: a likelihood that bends
    return ProblemFunction.of(Clipped(), learned)


NUMBERS = torch.tensor([[0.7, 1, 2.0], [2.0, 0, 2.0], [-30.0, 1, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_derivatives_agree_with_finite_differences(row: int) -> None:
    function, step = clipped(), 1e-4
    generator = torch.Generator().manual_seed(3)
    at = torch.rand(5, 2, dtype=torch.float64, generator=generator) * 2 - 1
    numbers = NUMBERS[row].expand(5, -1)
    with torch.inference_mode():
        value, gradient, hessian = function.derivatives(at, numbers)
    np.testing.assert_allclose(value, function.log_likelihood(at, numbers))
    assert float(hessian.abs().max()) > 1e-3
    for axis in range(2):
        offset = torch.zeros(2, dtype=torch.float64)
        offset[axis] = step
        above, below = (function.log_likelihood(at + sign * offset, numbers) for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, axis], (above - below) / (2 * step), atol=1e-5)
        above, below = (function.derivatives(at + sign * offset, numbers)[1] for sign in (1, -1))
        np.testing.assert_allclose(hessian[:, axis], (above - below) / (2 * step), atol=1e-5)


def test_outside_the_training_it_keeps_the_value_at_the_edge() -> None:
    function = clipped()
    at = torch.tensor([[3.0, 0.2], [90.0, 0.2]], dtype=torch.float64)
    value, gradient, _ = function.derivatives(at, NUMBERS[:1].expand(2, -1))
    assert float(value[0]) == float(value[1])
    assert float(gradient[1, 0]) == 0.0 and float(gradient[1, 1]) != 0.0


def test_probabilities_of_all_data_integrate_to_one() -> None:
    function = clipped()
    levels = torch.linspace(-400, 400, 400_000, dtype=torch.float64)
    width, total = float(levels[1] - levels[0]), 0.0
    for hit in (0.0, 1.0):
        for values, measure in ((levels, width), (torch.tensor([2.0], dtype=torch.float64), 1.0)):
            numbers = torch.stack([values, torch.full_like(values, hit), torch.full_like(values, 2.0)], -1)
            at = torch.tensor([0.4, -0.3], dtype=torch.float64).expand(len(values), -1)
            total += float(function.log_likelihood(at, numbers).exp().sum()) * measure
    assert total == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("numbers", "distance"),
    [([40.0, 1.0, 2.0], 0.0), ([40.0, 8.0, 2.0], 0.5), ([40.0, 1.0, 5.0], 1.5), ([-1.0, -12.0, 2.0], 1.0)],
)
def test_the_distance_of_an_observation_is_that_of_its_worst_number(
    numbers: list[float], distance: float
) -> None:
    learned, _ = untrained(Counter(), COUNTER)
    assert learned.distance_of(torch.tensor(numbers, dtype=torch.float64)) == pytest.approx(distance)


def test_a_count_above_all_of_the_training_is_outside() -> None:
    learned, _ = untrained(Counter(), COUNTER)
    most = float(learned.highest[0])
    inside, outside = (learned.distance_of(torch.tensor([most * by, 0, 2]).double()) for by in (1, 3))
    assert inside == 0 and outside == pytest.approx(2, rel=0.1)
