from __future__ import annotations

import pytest
import torch

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.training.families import FAMILIES, Draw, mixed, planar


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 6])
def test_priors_have_mean_zero_and_unit_spread(dimension: int) -> None:
    problems = mixed().sample(64, dimension, torch.Generator().manual_seed(0))
    mean, covariance = problems.prior.moments()
    assert float(mean.abs().max()) < 1e-4
    spread = la.trace(covariance) / dimension
    assert torch.allclose(spread, torch.ones(64), atol=1e-3)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_values_have_the_likelihood_that_the_observations_say(name: str) -> None:
    # at the true state, squared residuals of inliers have mean one a row
    problems = FAMILIES[name]().sample(3000, 2, torch.Generator().manual_seed(1))
    residuals = problems.observations.residuals(problems.state[:, None])
    honest = problems.observations.mask & (problems.observations.outlier_probability == 0)
    squared = (residuals.squared[:, 0] / problems.observations.rows)[honest]
    assert abs(float(squared.mean()) - 1) < 0.06


def test_the_same_seed_gives_the_same_problems() -> None:
    one = planar().sample(8, 2, torch.Generator().manual_seed(5))
    other = planar().sample(8, 2, torch.Generator().manual_seed(5))
    assert torch.equal(one.observations.value, other.observations.value)
    assert torch.equal(one.prior.means, other.prior.means)


def test_rotations_are_orthogonal() -> None:
    rotation = Draw(torch.Generator().manual_seed(2)).rotations(50, dimension=4)
    assert torch.allclose(rotation @ rotation.mT, torch.eye(4).expand(50, 4, 4), atol=1e-3)


def test_a_state_comes_from_the_component_that_is_told() -> None:
    problems = mixed().sample(512, 2, torch.Generator().manual_seed(3))
    row = torch.arange(512)
    means = problems.prior.means[row, problems.source]
    inverse = la.invert_lower(problems.prior.factors()[row, problems.source])
    whitened = la.times(inverse, problems.state - means)
    assert abs(float(la.squared_norm(whitened).mean()) - 2) < 0.3
