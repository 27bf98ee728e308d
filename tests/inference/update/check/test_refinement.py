from __future__ import annotations

import math
from dataclasses import replace

import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode, range_to
from beliefstream.inference.update.check import refinement
from beliefstream.inference.update.check.importance import Weighted
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.check.mode_search import evened, randomised_images
from research.evaluation.exact.grid import grid_posterior
from tests.inference.problems import sampled

DOUBLE = torch.float64


def local_of(count: int, seed: int) -> LocalProblem:
    prior, observations, _ = sampled(count, seed=seed)
    local = LocalProblem.of(prior, observations, [0, 1])
    return with_images(local)


def with_images(local: LocalProblem) -> LocalProblem:
    given = local.prior, local.observations
    return replace(local, images=evened(randomised_images(*given)))


def test_a_component_that_no_point_speaks_for_keeps_its_shape() -> None:
    local = local_of(1, seed=4)
    far = GaussianMixture(
        torch.tensor([[0.999, 0.001]], dtype=DOUBLE).log(),
        torch.tensor([[[0.0, 0.0], [1e3, 1e3]]], dtype=DOUBLE),
        torch.eye(2, dtype=DOUBLE).expand(1, 2, 2, 2),
    )
    points = local.prior.sample(64, torch.Generator().manual_seed(1))
    zeros = torch.zeros(1, 64, dtype=DOUBLE)
    weighted = Weighted(points, zeros, zeros, zeros)
    moved = refinement.maximise(far, weighted)
    torch.testing.assert_close(moved.covariances[0, 1], far.covariances[0, 1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(moved.means[0, 1], far.means[0, 1])


def test_components_are_added_where_the_answer_lacks_mass() -> None:
    # a prior of two places, of which the answer knows one
    means = torch.tensor([[[-3.0, 0.0], [3.0, 0.0]]], dtype=DOUBLE)
    half = torch.tensor([[0.5, 0.5]], dtype=DOUBLE).log()
    covariances = 0.2 * torch.eye(2, dtype=DOUBLE).expand(1, 2, 2, 2)
    prior = GaussianMixture(half, means, covariances)
    far_away = encode([[Reading(range_to([0, 1], 2, [0.0, 50.0], 30.0), torch.tensor([50.0]).numpy())]], 2)
    local = LocalProblem.of(prior, far_away, [0, 1])
    one = GaussianMixture(half[:, :1] * 0, local.prior.means[:, :1], local.prior.covariances[:, :1])
    weighted = local.weigh(one, 512, seed=5)
    more = refinement.add_components(local, one, weighted, 4)
    assert bool((more.means[0, 1:, 0] > 0).all())
    assert abs(float(torch.logsumexp(more.log_weights, 1))) < 1e-9
    assert 0.3 < float(more.log_weights[0, 1:].exp().sum()) < 0.7


def test_a_thin_ring_takes_more_components_and_comes_nearer() -> None:
    prior = GaussianMixture.gaussian(torch.zeros(1, 2, dtype=DOUBLE), torch.eye(2, dtype=DOUBLE)[None])
    ring = encode([[Reading(range_to([0, 1], 2, [0.2, 0.1], 0.05), torch.tensor([1.2]).numpy())]], 2)
    exact = grid_posterior(prior, ring)
    local = LocalProblem.of(prior, ring, [0, 1])
    local = with_images(local)
    start = local.images.places(torch.arange(0, 64, 8)[None])  # spread over the ring
    gaps = []
    for added in (0, 8, 24):
        better = refinement.refine(local, start, added, rounds=4, steps=3, points=1024)
        assert better.components == 8 + added
        gaps.append(exact.divergence(local.extend(better)))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05


def test_problems_do_not_depend_on_the_others_of_their_batch() -> None:
    count = refinement.CHUNK // 128 + 3  # of two chunks
    local = local_of(count, seed=6)
    together = refinement.refine(local, local.prior, 4, rounds=2, steps=1, points=128)
    last = torch.tensor([count - 1])
    alone = refinement.refine(local.rows(last), local.prior.rows(last), 4, rounds=2, steps=1, points=128)
    assert math.isclose(float((alone.means - together.rows(last).means).abs().max()), 0.0, abs_tol=1e-8)
