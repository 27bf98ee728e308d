from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.spatial
import scipy.stats

from research.paper.exact.grids import (
    GridPosterior,
    process_exact,
    quantum_posterior,
    quantum_probabilities,
    variance_posterior,
)


@pytest.mark.parametrize(("alpha", "beta", "z"), [(2.0, 2.0, 0.5), (0.2, 0.1, 3.0), (30.0, 1.0, 0.0)])
def test_the_posterior_of_a_variance_is_prior_times_likelihood(alpha: float, beta: float, z: float) -> None:
    found = variance_posterior(np.array([alpha]), np.array([beta]), np.array([z]))
    variance = np.exp(found.points[0])
    joint = scipy.stats.invgamma.logpdf(variance, alpha, scale=beta)
    joint += scipy.stats.norm.logpdf(z, scale=np.sqrt(variance)) + found.points[0]
    expected = joint - np.log(scipy.integrate.trapezoid(np.exp(joint), found.points[0]))
    dense = expected > -60
    np.testing.assert_allclose(found.log_density[0][dense], expected[dense], atol=1e-6)


def test_the_divergence_of_normal_densities_is_that_in_closed_form() -> None:
    points = np.linspace(-20, 20, 4001)[None]
    exact = GridPosterior.normalised(points, scipy.stats.norm.logpdf(points, 1, 0.5) + 7)
    answer = exact.divergence(lambda at: scipy.stats.norm.logpdf(at, 0, 2))
    assert answer == pytest.approx(np.log(2 / 0.5) + (0.25 + 1) / 8 - 0.5, abs=1e-9)


def test_draws_have_the_moments_of_the_posterior() -> None:
    points = np.tile(np.linspace(-8, 8, 401), (4000, 1))
    exact = GridPosterior.normalised(points, scipy.stats.norm.logpdf(points, 1, 0.5))
    drawn = exact.draw(np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(1, abs=0.04)
    assert drawn.std() == pytest.approx(0.5, abs=0.03)


def test_probabilities_of_outcomes_are_those_of_simulated_evolutions() -> None:
    """By matrix exponentials, with the noise of initial state and time drawn."""
    numbers, delta, count = np.random.default_rng(1), 0.3, 4000
    states = [(1.0, 0.0)] * 5 + [(0.0, 1.0)] * 2 + [(1.0, 1.0)] * 3
    times = [1, 2, 3, 4, 5, 1, 2, 1, 2, 3]
    hamilton = delta * np.array([[0, 1], [1, 0]]) + (1 - delta) * np.diag([1, -1])
    simulated = []
    for state, time in zip(states, times, strict=True):
        first = np.array(state) + 0.1 * numbers.normal(size=(count, 2))
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        spent = time + 0.05 * numbers.normal(size=(count, 1, 1))
        last = scipy.linalg.expm(-1j * spent * hamilton) @ first[..., None]
        simulated.append((np.abs(last[:, 0, 0]) ** 2).mean())
    np.testing.assert_allclose(quantum_probabilities(np.array(delta)), simulated, atol=0.012)


def test_without_information_the_quantum_posterior_follows_the_prior() -> None:
    """Over all outcomes, the likelihoods sum to 1, so posteriors weighted by their evidence average to the prior."""
    delta = np.linspace(0.05, 0.95, 7)
    ones = quantum_probabilities(delta)
    assert ((ones > 0) & (ones < 1)).all()
    found = quantum_posterior(np.array([2.0]), np.array([3.0]), np.ones((1, 10)))
    mass = np.exp(found.log_density).sum() * (found.points[0, 1] - found.points[0, 0])
    assert mass == pytest.approx(1, abs=1e-9)
    at = 1 / (1 + np.exp(-found.points[0]))
    shape = found.log_density[0] - scipy.stats.beta.logpdf(at, 2, 3) - np.log(at * (1 - at))
    likelihood = np.log(quantum_probabilities(at)).sum(-1)
    inside = (at > 0.01) & (at < 0.99)
    assert np.ptp((shape - likelihood)[inside]) < 1e-6


def test_a_gaussian_process_is_integrated_as_by_scipy() -> None:
    numbers = np.random.default_rng(3)
    data = np.concatenate([5 * numbers.uniform(size=(6, 5)), numbers.normal(size=(6, 1))], 1)
    shape, rate, true = 102.0, 400.0, 4.2

    def joint(scale: float, points: int) -> float:
        inputs, outputs = data[:points, :5], data[:points, 5]
        apart = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(inputs, "sqeuclidean"))
        matrix = np.exp(-apart / (2 * scale**2)) + 1e-6 * np.eye(points)
        density = scipy.stats.multivariate_normal.pdf(outputs, np.zeros(points), matrix)
        return float(density * scipy.stats.invgamma.pdf(scale, shape, scale=rate))

    evidence = scipy.integrate.quad(joint, 1.5, 9, (5,), points=[4], epsrel=1e-10)[0]
    both = scipy.integrate.quad(joint, 1.5, 9, (6,), points=[4], epsrel=1e-10)[0]
    output, scale = process_exact(np.array([shape, rate]), data, float(np.log(true)))
    assert output == pytest.approx(np.log(both / evidence), abs=1e-6)
    assert scale == pytest.approx(np.log(joint(true, 5) / evidence), abs=1e-6)
