"""Likelihoods of the tasks against SciPy, integrals and their own simulators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.published.priors import Families
from research.sbibm import problems
from research.sbibm.run import TASKS


def numbers(values: Any) -> torch.Tensor:
    return torch.as_tensor(np.atleast_2d(values), dtype=torch.float64)


def test_the_crescent_is_a_density() -> None:
    theta = numbers([0.3, -0.5])
    grid = np.linspace(-1, 1, 2001)
    x, y = np.meshgrid(grid, grid)
    data = numbers(np.stack([x.ravel(), y.ravel()], 1))
    density = problems.TwoMoons().log_density(theta.expand(len(data), -1), data).exp().numpy()
    total = density.sum() * (grid[1] - grid[0]) ** 2
    # log_density leaves out 1 / (π · 0.01 · √2π), which does not depend on theta
    assert total == pytest.approx(np.pi * 0.01 * np.sqrt(2 * np.pi), rel=1e-3)
    drawn = problems.TwoMoons().draw(theta.expand(20_000, -1), torch.Generator().manual_seed(0)).numpy()
    mean = (density[:, None] * data.numpy()).sum(0) / density.sum()
    np.testing.assert_allclose(drawn.mean(0), mean, atol=4 * drawn.std(0).max() / np.sqrt(len(drawn)))


def test_slcp_has_four_normal_points() -> None:
    theta = np.array([0.7, -2.9, -1.0, -0.9, 0.6])
    first, second, correlation = theta[2] ** 2, theta[3] ** 2, np.tanh(theta[4])
    covariance = np.array([[first**2, correlation * first * second], [0, second**2]])
    covariance[1, 0] = covariance[0, 1]
    law = scipy.stats.multivariate_normal(theta[:2], covariance + 1e-6 * np.eye(2))
    points = np.random.default_rng(0).normal(size=(4, 2)) - [0, 3]
    found = problems.SLCP().log_density(numbers(theta), numbers(points.ravel()))
    assert float(found) == pytest.approx(law.logpdf(points).sum() + 4 * np.log(2 * np.pi), rel=1e-9)
    drawn = problems.SLCP().draw(numbers(theta).expand(40_000, -1), torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.cov(drawn[:, 2:4].numpy().T), covariance, atol=0.03)


def test_spikes_have_sufficient_statistics() -> None:
    """As sbibm computes them: the number of spikes, and the average of the stimulus before a spike."""
    task = problems.BernoulliGLM()
    numbers_of = np.random.default_rng(0)
    spikes = (numbers_of.random(100) < 0.5).astype(float)
    stimulus = np.random.RandomState(42).randn(100).astype(np.float32)
    average = np.correlate(np.pad(spikes, 8), stimulus, "valid")[-9:]
    np.testing.assert_allclose(spikes @ task.design.numpy(), [spikes.sum(), *average], rtol=1e-6)

    def log_probability(theta: Any) -> float:
        share = 1 / (1 + np.exp(-task.design.numpy() @ theta))
        return float(scipy.stats.bernoulli.logpmf(spikes, share).sum())

    pair = 0.3 * numbers_of.normal(size=(2, 10))
    data = numbers([spikes.sum(), *average]).expand(2, -1)
    found = task.log_density(numbers(pair), data).numpy()
    assert found[1] - found[0] == pytest.approx(log_probability(pair[1]) - log_probability(pair[0]), rel=1e-5)


def test_an_epidemic_follows_its_equations() -> None:
    contact, recovery, people = 0.9, 0.1, 1e6

    def slope(_: float, state: Any) -> list[float]:
        caught = contact * state[0] * state[1] / people
        return [-caught, caught - recovery * state[1]]

    exact = scipy.integrate.solve_ivp(
        slope, (0, 160), [people - 1, 1.0], t_eval=np.arange(0, 160, 17.0), rtol=1e-10, atol=1e-8
    )
    found = problems.SIR().infected(numbers([contact, recovery]))[0].numpy()
    np.testing.assert_allclose(found, exact.y[1] / people, rtol=1e-3)


def test_prey_and_predators_follow_their_equations() -> None:
    theta = np.array([0.69, 0.108, 0.89, 0.117])

    def slope(_: float, state: Any) -> list[float]:
        prey, predators = state
        return [
            theta[0] * prey - theta[1] * prey * predators,
            theta[3] * prey * predators - theta[2] * predators,
        ]

    times = 2.1 * np.arange(10)
    exact = scipy.integrate.solve_ivp(slope, (0, 20), [30.0, 1.0], t_eval=times, rtol=1e-10, atol=1e-10)
    found = problems.LotkaVolterra().log_sizes(numbers(theta))[0].exp().numpy()
    np.testing.assert_allclose(found, exact.y.ravel(), rtol=1e-3)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_a_problem_of_the_library(name: str) -> None:
    task = TASKS[name]()
    function = ProblemFunction.of(task).tried([])
    families = Families.of(function)
    if families is None:
        mean, covariance = (np.array(part[0]) for part in task.prior[1:])
        drawn = np.random.default_rng(0).multivariate_normal(mean, covariance, 2000)
    else:
        prior = torch.ones(2000, 2 * len(function.parameters), dtype=torch.float64)
        drawn = families.draw_numbers(2000, torch.Generator().manual_seed(0)).numpy()
        np.testing.assert_allclose(drawn, prior)
        share = np.random.default_rng(0).random((2000, len(function.parameters)))
        drawn = np.log(share / (1 - share))
        bound = task.theta_at(torch.from_numpy(drawn)).abs().max()
        assert float(bound) == pytest.approx(task.bound, rel=0.01)  # type: ignore[attr-defined]
    points = torch.from_numpy(drawn)
    data = function.simulate(points, torch.zeros(2000, 0), torch.Generator().manual_seed(0))
    # data tell their own parameters from others, if the two functions are of one law
    own = function.log_likelihood(points, data)
    other = function.log_likelihood(points.roll(1, 0), data)
    assert float((own > other).double().mean()) > 0.7


def test_a_lognormal_prior_is_that_of_the_benchmark() -> None:
    task = problems.SIR()
    points = np.random.default_rng(0).multivariate_normal(task.prior[1][0], task.prior[2][0], 50_000)
    theta = task.theta_at(torch.from_numpy(points)).numpy()
    for column, law in zip(
        theta.T, (scipy.stats.lognorm(0.5, scale=0.4), scipy.stats.lognorm(0.2, scale=0.125)), strict=True
    ):
        assert scipy.stats.kstest(column, law.cdf).pvalue > 1e-3
