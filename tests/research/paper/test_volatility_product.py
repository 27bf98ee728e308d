from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from research.paper.volatility.filters import gaussian_filter
from research.paper.volatility.product import SETTINGS, FactorVolatility, network_filter
from research.paper.volatility.task import CONSTANTS, FACTORS, RETURNS, simulate

CONSTANT = CONSTANTS["δ .95, σ .3"]


def test_the_likelihood_of_the_problem_is_that_of_scipy_and_of_its_simulator() -> None:
    drawn = simulate(CONSTANT, 1, 3, 0)
    loadings = drawn.loadings[0]
    function = ProblemFunction.of(FactorVolatility(loadings))
    states, returns = torch.from_numpy(drawn.states[0]), torch.from_numpy(drawn.returns[0])
    found = function.log_likelihood(states, returns).numpy()
    for each, state, value in zip(drawn.returns[0], drawn.states[0], found, strict=True):
        covariance = loadings @ np.diag(np.exp(state)) @ loadings.T + np.eye(RETURNS)
        expected = scipy.stats.multivariate_normal(np.zeros(RETURNS), covariance).logpdf(each)
        np.testing.assert_allclose(value, expected)
    many = states[:1].expand(20_000, FACTORS)
    simulated = function.simulate(many, many[:, :0], torch.Generator().manual_seed(0)).numpy()
    covariance = loadings @ np.diag(np.exp(drawn.states[0, 0])) @ loadings.T + np.eye(RETURNS)
    size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.cov(simulated.T) / size, covariance / size, atol=0.05)


def test_the_librarys_network_filters_what_it_was_not_trained_on() -> None:
    """It is nearer to the fitted Gaussian than to the prior."""
    drawn = simulate(CONSTANT, 3, 2, 1)
    fitted = gaussian_filter(CONSTANT, drawn, 1000, 0)[0]
    prior = scipy.stats.norm(0, CONSTANT.spread).logpdf(drawn.states).sum(-1)
    for settings in SETTINGS.values():
        found = network_filter(CONSTANT, drawn, settings)
        assert abs((fitted - found).mean()) < (fitted - prior).mean() / 2
