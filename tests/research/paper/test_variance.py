from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from beliefstream.inference.published.parametric import log_gamma_draws
from research.paper.form import trained
from research.paper.variance.table import variance_table
from research.paper.variance.task import Variance


def test_densities_are_those_of_scipy() -> None:
    task = Variance()
    problems = task.sample(20, torch.Generator().manual_seed(0))
    points = problems.parameter[:, None] + torch.linspace(-1, 1, 5, dtype=torch.float64)
    alpha, beta = (part[:, None] for part in problems.prior.numpy().T)
    variance = points.exp().numpy()
    prior = scipy.stats.invgamma.logpdf(variance, alpha, scale=beta) + points.numpy()
    np.testing.assert_allclose(task.family.log_density(problems.prior, points), prior, rtol=1e-8)
    likelihood = scipy.stats.norm.logpdf(problems.data.numpy(), scale=np.sqrt(variance))
    gap = task.log_likelihood(problems.data, points).numpy() - likelihood
    assert np.ptp(gap, axis=1).max() < 1e-8  # a constant a problem


@pytest.mark.parametrize("meta", ["narrow", "wide", "unseen"])
def test_numbers_of_priors_have_the_distribution_of_the_meta_prior(meta: str) -> None:
    shape, rate = {"narrow": (1e4, 2e4), "wide": (4, 6), "unseen": (24, 6)}[meta]
    drawn = Variance(meta).sample(3000, torch.Generator().manual_seed(1)).prior.numpy()
    for column in drawn.T:
        assert scipy.stats.kstest(column, scipy.stats.invgamma(shape, scale=rate).cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [0.05, 0.7, 30.0])
def test_logarithms_of_gamma_variables_have_their_distribution(shape: float) -> None:
    drawn = log_gamma_draws(torch.full((3000,), shape).double(), torch.Generator().manual_seed(2))
    assert bool(drawn.isfinite().all())
    assert scipy.stats.kstest(drawn.numpy(), scipy.stats.loggamma(shape).cdf).pvalue > 1e-3


def test_an_unknown_meta_prior_is_named() -> None:
    with pytest.raises(ValueError, match="narrow, wide, unseen, got 'broadest'"):
        Variance("broadest")


def test_the_shipped_network_is_better_than_what_was_published() -> None:
    table = variance_table(trained.load("variance"), 40, 5)
    rows = {row.method: row.figures for row in table.rows}
    published = rows["DT-5"]
    for name in ("network, K = 5", "checked and refined, K = 5"):
        for meta, figure in rows[name].items():
            assert figure.mean < published[meta].mean / 2, (name, meta)
            assert figure.mean > -1e-9
    for meta, aim in (("narrow", 0.00005), ("wide", 0.00005), ("unseen", 0.0005)):
        assert rows["network, K = 10"][meta].mean < aim
    for meta, figure in rows["checked and refined, K = 10"].items():
        assert figure.mean <= rows["network, K = 10"][meta].mean + 1e-9
