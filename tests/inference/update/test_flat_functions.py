"""Quadrature of functions that are flat at a mean and steep beside it, against a fine grid in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.result import Method
from tests.inference.problems import updater

ALLOWED = 0.03  # nats; the estimate of the loss may be .02, four times `UpdateSettings.quadrature_below`
GRID = np.linspace(-9, 9, 40_001)


def well(u: Tensor, width: Tensor) -> Tensor:
    return torch.clamp(u[0].abs() - width, min=0).square()


def bump(u: Tensor, width: Tensor) -> Tensor:
    return 5 * torch.exp(-0.5 * ((u[0] - 2.1) / width).square())


def kink(u: Tensor, width: Tensor) -> Tensor:
    return torch.tanh((u[0] - width) * 8)


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    well: lambda x, width: np.maximum(np.abs(x) - width, 0) ** 2,
    bump: lambda x, width: 5 * np.exp(-0.5 * ((x - 2.1) / width) ** 2),
    kink: lambda x, width: np.tanh((x - width) * 8),
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_an_answer_by_quadrature_is_right_where_the_function_is_flat_at_the_mean(function: Any) -> None:
    exact, draws, rows, numbers = FUNCTIONS[function], np.random.default_rng(9), [], []
    for _ in range(40):
        width, deviation = draws.uniform(0.1, 2.0), float(np.exp(draws.uniform(np.log(0.03), np.log(3))))
        value = exact(draws.standard_normal(), width) + deviation * draws.standard_normal()
        sensor = sensors.function(function, [0], 1, deviation, {"width": width})
        rows.append([Reading(sensor, np.array([value]))])
        numbers.append((width, deviation, value))
    count = len(rows)
    prior = GaussianMixture.gaussian(torch.zeros(count, 1).double(), torch.ones(count, 1, 1).double())
    found = updater().update(prior, encode(rows, 1))
    by_quadrature = torch.nonzero(found.method == int(Method.QUADRATURE))[:, 0].tolist()
    assert len(by_quadrature) >= 5
    step = GRID[1] - GRID[0]
    answered = found.posterior.log_density(
        torch.from_numpy(GRID)[None, :, None].expand(count, -1, -1)
    ).numpy()
    for row in by_quadrature:
        width, deviation, value = numbers[row]
        log = -0.5 * GRID**2 - 0.5 * ((value - exact(GRID, width)) / deviation) ** 2
        log -= np.log(np.exp(log - log.max()).sum() * step) + log.max()
        assert (np.exp(log) * (log - answered[row])).sum() * step < ALLOWED
