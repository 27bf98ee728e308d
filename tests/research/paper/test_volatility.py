from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from research.paper.exact.grids import Array
from research.paper.exact.particles import gaussian_log_density
from research.paper.volatility.filters import (
    gaussian_filter,
    mode,
    particle_filter,
    update,
)
from research.paper.volatility.product import SETTINGS
from research.paper.volatility.table import volatility_table
from research.paper.volatility.task import CONSTANTS, Constants, Likelihood, simulate


def one() -> tuple[Likelihood, Array, Array, Array]:
    """The likelihood of one step of two series, with their states, loadings and returns."""
    series = simulate(Constants(0.9, 0.4), 2, 1, 0)
    returns = series.returns[:, 0]
    return Likelihood.of(series.loadings, returns), series.states[:, 0], series.loadings, returns


def test_the_likelihood_is_that_of_scipy() -> None:
    likelihood, states, loadings, returns = one()
    found = likelihood.log_density(states[:, None])[:, 0]
    for row in range(2):
        covariance = loadings[row] @ np.diag(np.exp(states[row])) @ loadings[row].T + np.eye(30)
        expected = scipy.stats.multivariate_normal.logpdf(returns[row], np.zeros(30), covariance)
        assert found[row] == pytest.approx(expected, abs=1e-8)


def test_the_gradient_is_that_of_differences() -> None:
    likelihood, states, _, _ = one()
    gradient, information = likelihood.slope(states)
    steps = 1e-5 * np.eye(10)
    up, down = (likelihood.log_density(states[:, None] + sign * steps) for sign in (1, -1))
    np.testing.assert_allclose(gradient, (up - down) / 2e-5, atol=1e-5)
    assert (np.linalg.eigvalsh(information) > -1e-9).all()


def test_the_information_is_the_mean_square_of_gradients() -> None:
    series = simulate(Constants(0.9, 0.4), 1, 1, 0)
    numbers, state, loadings = np.random.default_rng(0), series.states[:, 0], series.loadings
    gradients = []
    for _ in range(3000):
        factors = np.exp(state / 2) * numbers.normal(size=state.shape)
        returns = np.einsum("srf,sf->sr", loadings, factors) + numbers.normal(size=(1, 30))
        gradients.append(Likelihood.of(loadings, returns).slope(state)[0][0])
    information = Likelihood.of(loadings, returns).slope(state)[1][0]
    np.testing.assert_allclose(np.cov(np.array(gradients).T), information, atol=0.12)


WIDTH = 4.0  # variance of a measurement


class NormalLikelihood(Likelihood):
    """Of a normal measurement of the state itself, for which everything is known."""

    def log_density(self, states: Array) -> Array:
        return gaussian_log_density(states, self.projected[:, None], WIDTH * np.eye(10))

    def slope(self, state: Array) -> tuple[Array, Array]:
        return (self.projected - state) / WIDTH, np.tile(np.eye(10) / WIDTH, (len(state), 1, 1))


def test_an_update_is_bayes_rule_where_the_likelihood_is_normal() -> None:
    numbers = np.random.default_rng(1)
    seen, mean = numbers.normal(size=(2, 3, 10))
    likelihood = NormalLikelihood(np.zeros((3, 10, 10)), seen, np.zeros(3))
    covariance = np.tile(0.5 * np.eye(10), (3, 1, 1))
    exact = (mean / 0.5 + seen / WIDTH) / (1 / 0.5 + 1 / WIDTH)
    found, spread = mode(likelihood, mean, covariance)
    np.testing.assert_allclose(found, exact, atol=1e-9)
    centre, matrix, evidence, size = update(likelihood, mean, covariance, 20_000, numbers)
    np.testing.assert_allclose(centre, exact, atol=0.03)
    np.testing.assert_allclose(matrix, spread, atol=0.03)
    expected = [
        scipy.stats.multivariate_normal.logpdf(z, m, (0.5 + WIDTH) * np.eye(10))
        for z, m in zip(seen, mean, strict=True)
    ]
    np.testing.assert_allclose(evidence, expected, atol=0.03)
    assert (size > 0.5).all()


def test_the_particle_filter_is_the_kalman_filter_where_the_likelihood_is_normal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    constants = Constants(0.8, 0.3)
    series = simulate(constants, 3, 6, 2)
    seen = series.states + WIDTH**0.5 * np.random.default_rng(3).normal(size=series.states.shape)
    module = "research.paper.volatility.filters.Likelihood.of"
    zeros = (np.zeros((3, 10, 10)), np.zeros(3))

    def filtered(seed: int) -> tuple[Array, Array]:
        steps = iter(np.moveaxis(seen, 1, 0))
        monkeypatch.setattr(module, lambda *_: NormalLikelihood(zeros[0], next(steps), zeros[1]))
        return particle_filter(constants, series, 30_000, seed)

    mean, variance = np.zeros((3, 10)), constants.spread**2
    exact = []
    for step in range(6):
        if step:
            mean, variance = 0.8 * mean, 0.64 * variance + 0.09
        gain = variance / (variance + WIDTH)
        mean, variance = mean + gain * (seen[:, step] - mean), (1 - gain) * variance
        exact.append(scipy.stats.norm.logpdf(series.states[:, step], mean, np.sqrt(variance)).sum(1))
    for one, other in zip(filtered(0), filtered(1), strict=True):
        noise = np.abs(one - other).mean()  # √2 times the error of one run
        assert noise < 0.5  # so that the test can fail
        assert np.abs(one - np.stack(exact, 1)).mean() < 2 * noise


@pytest.mark.parametrize("constants", CONSTANTS.values(), ids=CONSTANTS.keys())
def test_the_filter_is_no_worse_than_a_large_particle_filter(constants: Constants) -> None:
    series = simulate(constants, 2, 6, 4)
    ours, product, size = gaussian_filter(constants, series, 1000, 0)
    large, _ = particle_filter(constants, series, 5000, 1)
    assert np.isfinite(ours).all() and np.isfinite(product).all()
    gain = (ours - large).ravel()
    assert gain.mean() > -3 * gain.std(ddof=1) / len(gain) ** 0.5
    assert (size > 0.02).all()


def test_the_table_has_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network has tests of its own (`test_volatility_product`)."""
    monkeypatch.setattr(
        "research.paper.volatility.table.network_filter",
        lambda constants, series, settings: np.zeros(series.states.shape[:2]),
    )
    table = volatility_table(2, 3, 0, (200, 400))
    assert [row.method for row in table.rows if row.source == "baseline"] == [
        "particle filter of 200",
        "particle filter of 200, Gaussian",
        "particle filter of 400",
        "particle filter of 400, Gaussian",
    ]
    ours = [row.method for row in table.rows if row.source == "ours"]
    assert ours == ["importance-fitted Gaussian", "its prediction × likelihood", *SETTINGS]
    assert len(table.columns) == 2 * len(CONSTANTS)
