"""A radiation source found by counters: the grid against scipy, and the methods against the grid."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from beliefstream.inference.network import weights
from beliefstream.inference.update.updater import Updater
from research.evaluation.baselines.moment_matched import MomentMatchedFilter
from research.evaluation.learned import sources


@pytest.fixture(scope="module")
def scene() -> sources.Scene:
    return sources.Scene.drawn(np.random.default_rng(1), 6)


@pytest.fixture(scope="module")
def grid(scene: sources.Scene) -> sources.Grid:
    return sources.Grid.of(scene)


def test_the_grid_is_normalised_and_has_the_evidence_of_points_of_the_prior(
    scene: sources.Scene, grid: sources.Grid
) -> None:
    assert grid.share.sum() == pytest.approx(1.0, abs=1e-9)
    few = sources.Scene(scene.source, scene.places[:1], scene.counts[:1])
    points = np.random.default_rng(0).normal(sources.MEAN, sources.SPREAD, (400_000, 3))
    likelihood = scipy.stats.poisson(sources.expected(points, few.places)[:, 0]).pmf(few.counts[0])
    error = likelihood.std() / likelihood.mean() / np.sqrt(len(points))
    assert sources.Grid.of(few).log_evidence == pytest.approx(np.log(likelihood.mean()), abs=5 * error)


def test_the_posterior_is_the_grids_and_says_how_far_it_is(scene: sources.Scene, grid: sources.Grid) -> None:
    belief, reported = sources.transformer(scene, Updater(weights.load()))
    divergence = grid.divergence(belief.log_density)
    assert -0.01 < divergence < min(0.3, reported + 0.1)
    kalman = grid.divergence(sources.kalman(scene).posterior().log_density)
    assert kalman > divergence


def test_particles_come_near_the_grid(scene: sources.Scene) -> None:
    few = sources.Scene(scene.source, scene.places[:2], scene.counts[:2])
    cloud, grid = sources.particles(few, 20_000, 1), sources.Grid.of(few)
    mean = (grid.share[:, None] * grid.states).sum(0)
    spread = np.sqrt((grid.share[:, None] * np.square(grid.states - mean)).sum(0))
    assert (np.abs(cloud.density().moments()[0][0].numpy() - mean) < 0.5 * spread).all()


def test_the_kalman_filter_is_exact_for_a_linear_gaussian_limit() -> None:
    """A mean of x + 10⁶ has the same variance for every x, and a Poisson count is nearly Gaussian."""
    found = MomentMatchedFilter(torch.tensor([3.0, -1.0]), torch.diag(torch.tensor([1e6, 4.0])))
    found.update(lambda state: state[0] + 1e6, 1e6 + 1003)
    gain = 1e6 / (1e6 + 1e6 + 3)
    assert found.mean.tolist() == pytest.approx([3 + gain * 1000, -1])
    assert float(found.covariance[0, 0]) == pytest.approx(1e6 * (1 - gain))
    assert float(found.covariance[1, 1]) == 4.0
