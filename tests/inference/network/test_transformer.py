from __future__ import annotations

import math

import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import (
    Configuration,
    DistributionTransformer,
    duplicate_components,
)
from beliefstream.inference.training.families import mixed
from tests.inference.problems import sampled


def test_heavy_components_get_the_copies_and_weights_are_shared_out() -> None:
    weights_ = torch.tensor([[0.7, 0.2, 0.1, 0.0]])
    mixture = GaussianMixture(weights_.log(), torch.zeros(1, 4, 2), torch.eye(2).expand(1, 4, 2, 2))
    tokens = duplicate_components(mixture, 8)
    copies = torch.bincount(tokens.source[0], minlength=4)
    assert copies.tolist()[3] == 0
    assert copies[0] > copies[1] >= copies[2] >= 1
    assert int(copies.sum()) == 8
    shared = torch.zeros(4).index_add(0, tokens.source[0], tokens.log_weights[0].exp())
    assert torch.allclose(shared, weights_[0], atol=1e-6)
    assert bool((tokens.spread[0, tokens.rank[0] == 0] == 0).all())


def test_one_network_serves_every_dimension() -> None:
    network = weights.load()
    for dimension in (1, 2, 3, 4, 6):
        problems = mixed().sample(4, dimension, torch.Generator().manual_seed(1))
        estimate = network(duplicate_components(problems.prior, 8), problems.observations)
        assert estimate.means.shape == (4, 8, dimension)
        assert bool(estimate.means.isfinite().all())
        assert bool((estimate.factors.diagonal(dim1=-2, dim2=-1) > 0).all())
        assert torch.allclose(estimate.log_weights.exp().sum(1), torch.ones(4), atol=1e-5)


def test_any_number_of_tokens_and_observations() -> None:
    network = weights.load()
    problems = mixed().sample(4, 2, torch.Generator().manual_seed(2))
    for tokens in (8, 12, 16):
        assert (
            network(duplicate_components(problems.prior, tokens), problems.observations).means.shape[1]
            == tokens
        )


def test_an_unused_place_changes_nothing() -> None:
    network = weights.load()
    problems = mixed().sample(16, 2, torch.Generator().manual_seed(3))
    tokens = duplicate_components(problems.prior, 8)
    observations = problems.observations
    garbage = torch.where(
        observations.mask[..., None], observations.value, torch.full_like(observations.value, 99.0)
    )
    fields = {name: getattr(observations, name) for name in observations.__dataclass_fields__}
    other = network(tokens, type(observations)(**{**fields, "value": garbage}))
    assert torch.allclose(network(tokens, observations).means, other.means, atol=1e-4)


def test_training_has_taught_it_something() -> None:
    prior, observations, state = sampled(256, seed=21)
    prior, observations = prior.to(dtype=torch.float32), observations.to(dtype=torch.float32)
    tokens = duplicate_components(prior, 8)

    def loss(network: DistributionTransformer) -> float:
        estimate = network(tokens, observations)
        covariances = estimate.factors @ estimate.factors.mT
        mixture = GaussianMixture(estimate.log_weights, estimate.means, covariances)
        return float(-mixture.log_density(state.float()[:, None]).clamp(min=-30).mean())

    with torch.no_grad():
        untrained, trained = loss(DistributionTransformer(Configuration())), loss(weights.load())
    assert trained < untrained - 1
    assert math.isfinite(trained)
