from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from research.paper.exact.discrepancy import discrepancy, unbiased
from research.paper.exact.grids import quantum_probabilities
from research.paper.form import trained
from research.paper.quantum.table import KL, MMD, quantum_table
from research.paper.quantum.task import Quantum, basis, fit, learn


def test_the_learned_probabilities_are_the_exact_ones() -> None:
    delta = np.linspace(0.01, 0.99, 99)
    learned = torch.sigmoid(basis(torch.from_numpy(delta)) @ learn().T).numpy()
    assert np.abs(learned - quantum_probabilities(delta)).max() < 0.012


def test_a_fit_recovers_coefficients_that_made_its_data() -> None:
    delta = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    true = torch.zeros(1, basis(delta).shape[1], dtype=torch.float64)
    true[0, :3] = torch.tensor([0.3, -1.0, 0.5])
    expected = 1e6 * torch.sigmoid(basis(delta) @ true.T)
    torch.testing.assert_close(fit(basis(delta), expected, 1_000_000), true, atol=1e-5, rtol=0)


def test_densities_are_those_of_scipy() -> None:
    task = Quantum(learn())
    problems = task.sample(10, torch.Generator().manual_seed(0))
    points = torch.linspace(-3, 3, 7, dtype=torch.float64).expand(10, -1)
    delta = torch.sigmoid(points).numpy()
    a, b = (part[:, None] for part in problems.prior.numpy().T)
    expected = scipy.stats.beta.logpdf(delta, a, b) + np.log(delta * (1 - delta))
    np.testing.assert_allclose(task.family.log_density(problems.prior, points), expected, atol=1e-9)
    ones = 1 / (1 + np.exp(-(basis(torch.from_numpy(delta)) @ task.coefficients.T).numpy()))
    outcome = problems.data.numpy()[:, None]
    likelihood = scipy.stats.bernoulli.logpmf(outcome, ones).sum(-1)
    np.testing.assert_allclose(task.log_likelihood(problems.data, points), likelihood, atol=1e-9)


def test_the_discrepancy_of_equal_distributions_is_small_and_of_others_large() -> None:
    numbers = np.random.default_rng(0)
    first, second = numbers.normal(size=(2, 300, 1))
    assert discrepancy([first], [second], 0).mean() < 0.01
    assert discrepancy([first], [second + 2], 0).mean() > 0.3


def test_the_estimate_is_unbiased() -> None:
    """For the kernel x·x' it is |mean of the true − mean of the drawn|² without the diagonal, in closed form."""
    values = np.array([[1.0], [3.0], [2.0], [2.0]])
    assert unbiased(values @ values.T, 2) == 1 * 3 + 2 * 2 - 2 * 2.0 * 2.0


def test_the_shipped_network_is_near_the_exact_posterior() -> None:
    """The aims, within three standard errors of these few problems; a divergence is not negative."""
    table = quantum_table(trained.load("quantum"), 60, 5)
    rows = {row.method: row.figures for row in table.rows}
    for name, aim in (("network", 0.001), ("checked and refined", 0.0005)):
        for count in (5, 10):
            mean, error = rows[f"{name}, K = {count}"][KL]
            assert error is not None and -1e-6 < mean < aim + 3 * error
    checked = {row.method: row.checked for row in table.rows}
    assert checked["network, K = 5"] == "unchecked" and checked["checked and refined, K = 5"] == "learned"
    floor, found = rows["exact posterior"][MMD], rows["checked and refined, K = 5"][MMD]
    assert floor.error is not None and abs(found.mean - floor.mean) < 3 * floor.error
