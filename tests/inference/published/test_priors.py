"""Priors of the training lie within the ranges, and faults of a problem's `priors` are told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError
from beliefstream.inference.published.priors import Families, Priors, drawn_mixtures
from tests.inference.published.problems import Variance


def test_priors_of_the_training_fill_the_range_and_lie_within_it() -> None:
    low, high = torch.tensor([-10.0, 0.0]).double(), torch.tensor([10.0, 4.0]).double()
    drawn = drawn_mixtures(low, high, 400, 6, torch.Generator().manual_seed(0))
    assert bool(drawn.log_weights.exp().sum(1).sub(1).abs().max() < 1e-9)
    assert sorted(set(drawn.present.sum(1).tolist())) == [1, 2, 3, 4, 5, 6]
    points = drawn.sample(50, torch.Generator().manual_seed(1)).view(-1, 2)
    outside = ((points < low) | (points > high)).double().mean()
    assert float(outside) < 0.05
    share = (points - low) / (high - low)
    assert bool((torch.histc(share[:, 0], 10, 0, 1) > 200).all())  # every tenth of the range is there
    deviations = drawn.covariances.diagonal(dim1=-2, dim2=-1).sqrt() / (high - low)
    assert float(deviations.min()) == pytest.approx(1 / 40, rel=0.05)
    assert 0.2 < float(deviations.max()) <= 0.25 + 1e-9


def test_a_parametric_prior_has_the_moments_of_its_draws() -> None:
    families = Families.of(ProblemFunction.of(Variance()))
    assert families is not None
    priors = Priors.parametric(families, torch.tensor([[3.0, 2.0]]).double())
    drawn = priors.sample(20_000, torch.Generator().manual_seed(0))[0, :, 0]
    assert float(drawn.mean()) == pytest.approx(float(priors.mixture.means[0, 0, 0]), abs=0.02)
    assert float(drawn.var()) == pytest.approx(float(priors.mixture.covariances[0, 0, 0, 0]), rel=0.05)


@pytest.mark.parametrize(
    ("priors", "shown"),
    [
        ({}, r"needs a family for each of \['variance'\], got {}"),
        ("beta", "got 'beta'"),
        ({"variance": ("beta", (1, 2), (1, 2))}, r"expected one of \['gamma', 'inverse_gamma'\], got 'beta'"),
        ({"variance": ("gamma", (1, 2))}, "ranges of two numbers"),
        ({"variance": ("gamma", (1, 2), (0, 2))}, r"positive numbers, got \(0, 2\)"),
        ({"variance": ("gamma", (2, 1), (1, 2))}, r"the lower number first, got \(2, 1\)"),
    ],
)
def test_priors_that_make_no_sense_are_told(priors: Any, shown: str) -> None:
    problem = type("Changed", (Variance,), {"priors": priors})()
    with pytest.raises(ProblemError, match=f"priors: .*{shown}"):
        Families.of(ProblemFunction.of(problem))
