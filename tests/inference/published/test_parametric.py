"""Parametric priors: densities, moments and draws of the coordinate are those of SciPy's laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from beliefstream.inference.published.parametric import FAMILIES

NUMBERS = torch.tensor([[0.7, 2.0], [3.0, 0.4], [20.0, 30.0]], dtype=torch.float64)
LAWS: dict[str, Any] = {
    "gamma": lambda a, b: scipy.stats.gamma(a, scale=1 / b),
    "inverse_gamma": lambda a, b: scipy.stats.invgamma(a, scale=b),
    "beta": scipy.stats.beta,
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_density_of_the_coordinate_is_that_of_the_parameter_times_its_slope(name: str) -> None:
    points = torch.linspace(-2, 2, 9, dtype=torch.float64).expand(3, -1)
    found = FAMILIES[name].log_density(NUMBERS, points).numpy()
    at = points.numpy()
    parameter = 1 / (1 + np.exp(-at)) if name == "beta" else np.exp(at)
    slope = parameter * (1 - parameter) if name == "beta" else parameter
    expected = [
        LAWS[name](*numbers).logpdf(row) for numbers, row in zip(NUMBERS.tolist(), parameter, strict=True)
    ]
    np.testing.assert_allclose(found, np.array(expected) + np.log(slope), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_draws_have_the_law_and_its_moments(name: str) -> None:
    for numbers in NUMBERS:
        many = numbers.expand(4000, 2)
        drawn = FAMILIES[name].draw(many, torch.Generator().manual_seed(1))
        parameter = torch.sigmoid(drawn) if name == "beta" else drawn.exp()
        law = LAWS[name](*numbers.tolist())
        assert scipy.stats.kstest(parameter.numpy(), law.cdf).pvalue > 1e-3
        mean, deviation = (float(part[0]) for part in FAMILIES[name].moments(many))
        assert float(drawn.mean()) == pytest.approx(mean, abs=4 * deviation / 4000**0.5)
        assert float(drawn.std()) == pytest.approx(deviation, rel=0.15)
