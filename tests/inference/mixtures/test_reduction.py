from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from tests.inference.problems import sampled


@settings(max_examples=25, deadline=None)
@given(components=st.integers(1, 8), threshold=st.floats(0, 2), seed=st.integers(0, 1000))
def test_mean_and_covariance_stay_and_no_more_components_are_left(
    components: int, threshold: float, seed: int
) -> None:
    mixture, _, _ = sampled(8, dimension=3, seed=seed)
    reduced = reduce(mixture, components, threshold)
    assert int(reduced.present.sum(1).max()) <= components
    mean, covariance = mixture.moments()
    new_mean, new_covariance = reduced.moments()
    # components of weight below 1e-5 of the heaviest are dropped, hence the tolerance
    np.testing.assert_allclose(new_mean, mean, atol=1e-3)
    np.testing.assert_allclose(new_covariance, covariance, atol=5e-3)
    weights = reduced.log_weights.exp()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-9)
    assert bool((weights[:, :-1] >= weights[:, 1:]).all())


def test_identical_components_become_one() -> None:
    mean = torch.zeros(1, 4, 2, dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64).expand(1, 4, 2, 2)
    mixture = GaussianMixture(torch.full((1, 4), 0.25, dtype=torch.float64).log(), mean, eye)
    reduced = reduce(mixture, 8, 1e-6)
    assert reduced.components == 1
    np.testing.assert_allclose(reduced.covariances[0, 0], np.eye(2))


def test_far_components_stay_apart() -> None:
    means = torch.tensor([[[0.0], [50.0]]], dtype=torch.float64)
    eye = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(torch.tensor([[0.5, 0.5]], dtype=torch.float64).log(), means, eye)
    assert reduce(mixture, 8, 0.05).components == 2


def test_the_loss_stays_near_the_threshold_a_merge() -> None:
    mixture, _, _ = sampled(32, seed=3)
    reduced = reduce(mixture, 8, 0.01)
    points = mixture.sample(4000, torch.Generator().manual_seed(0))
    loss = (mixture.log_density(points) - reduced.log_density(points)).mean(1)
    assert float(loss.max()) < 7 * 0.01 + 0.02  # at most seven merges, each bounded; sampling error
