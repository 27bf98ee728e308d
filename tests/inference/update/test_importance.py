from __future__ import annotations

import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import duplicate_components
from beliefstream.inference.update import importance
from beliefstream.inference.update.updater import Updater
from tests.inference.problems import sampled, updater


def linear_problem() -> tuple[GaussianMixture, Observations, GaussianMixture]:
    """One Gaussian prior, one position, and the exact posterior."""
    import numpy as np

    from beliefstream.inference import sensors
    from beliefstream.inference.sensors import Reading, encode

    eye = torch.eye(2, dtype=torch.float64)[None]
    prior = GaussianMixture.gaussian(torch.zeros(1, 2, dtype=torch.float64), eye)
    sensor = sensors.position([0, 1], 2, 0.25 * np.eye(2))
    observations = encode([[Reading(sensor, np.array([1.0, -0.5]))]], 2)
    return prior, observations, Updater(updater().network).update(prior, observations).posterior


def weigh(
    prior: GaussianMixture, answer: GaussianMixture, observations: Observations, count: int, seed: int
) -> importance.Weighted:
    images = importance.gauss_newton_images(
        prior.means, prior.means, prior.covariances, observations, observations.mask[:, None].double(), 4
    )
    return importance.weigh(prior, answer, observations, images, count, seed)


def size_of(prior: GaussianMixture, answer: GaussianMixture, observations: Observations) -> float:
    weighted = weigh(prior, answer, observations, 512, seed=1)
    return float(importance.quality(weighted).effective_sample_size[0])


def test_the_exact_posterior_has_effective_sample_size_one_and_the_right_evidence() -> None:
    prior, observations, exact = linear_problem()
    weighted = weigh(prior, exact, observations, 512, seed=1)
    size, evidence, divergence, _ = importance.quality(weighted)
    assert float(divergence[0]) < 0.01
    assert abs(float(size[0]) - 1) < 0.02
    truth = updater().update(prior, observations).log_evidence
    assert abs(float(evidence[0] - truth[0])) < 0.02


def test_an_answer_too_narrow_or_displaced_has_a_small_one() -> None:
    prior, observations, exact = linear_problem()
    narrow = GaussianMixture(exact.log_weights, exact.means, exact.covariances * 0.3)
    displaced = GaussianMixture(exact.log_weights, exact.means + 0.8, exact.covariances)
    assert size_of(prior, narrow, observations) < 0.6
    assert size_of(prior, displaced, observations) < 0.4


def test_a_mode_that_the_answer_misses_is_seen() -> None:
    # two places are equally likely, the answer knows one
    means = torch.tensor([[[-5.0, 0.0], [5.0, 0.0]]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64).expand(1, 2, 2, 2)
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    prior = GaussianMixture(half, means, eye)
    _, observations, _ = linear_problem()
    nothing = Observations(
        **{name: getattr(observations, name) for name in observations.__dataclass_fields__}
        | {"mask": observations.mask & False}
    )
    one = GaussianMixture(half[:, :1] * 0, means[:, :1], eye[:, :1])
    assert size_of(prior, one, nothing) < 0.1
    assert size_of(prior, prior, nothing) > 0.95


def test_the_same_problem_gives_the_same_points() -> None:
    prior, observations, _ = sampled(3, seed=4)
    first = weigh(prior, prior, observations, 64, seed=5)
    second = weigh(prior, prior, observations, 64, seed=5)
    assert torch.equal(first.points, second.points)


def test_the_proposal_sees_a_ring_that_the_answer_and_the_prior_hardly_touch() -> None:
    # one range of 40 m from a prior of 250 m, which may be an outlier: about half of the mass lies on a thin ring
    import numpy as np

    from beliefstream.inference import sensors
    from beliefstream.inference.sensors import Reading, encode

    wide = 250.0**2 * torch.eye(2, dtype=torch.float64)[None]
    prior = GaussianMixture.gaussian(torch.zeros(1, 2, dtype=torch.float64), wide)
    sensor = sensors.range_to([0, 1], 2, [20.0, 10.0], 0.5, 0.05, 100.0)
    observations = encode([[Reading(sensor, np.array([40.0]))]], 2)
    tokens = duplicate_components(prior, 8)
    starts = tokens.means + 250.0 * tokens.spread
    images = importance.gauss_newton_images(
        starts, tokens.means, tokens.covariances, observations, observations.mask[:, None].double(), 4
    )
    distance = (images.means[0] - torch.tensor([20.0, 10.0], dtype=torch.float64)).norm(dim=-1)
    assert int(((distance - 40).abs() < 2).sum()) >= 6
    weighted = importance.weigh(prior, prior, observations, images, 2048, seed=1)
    size = importance.quality(weighted).effective_sample_size
    assert float(size[0]) < 0.2  # the prior alone is a poor answer, and is seen to be
