"""The native shares of covariances against PyTorch's operators, which share no code with them."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.tracking import native_accumulated_error
from beliefstream.inference.tracking.accumulated_error import share
from tests.inference.plain_models import assert_near, random_covariances, random_mixture

few = settings(max_examples=40, deadline=None)
seeds, sizes, counts = st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9)
BATCH = 3


def scaled_mixture(seed: int, count: int, size: int) -> GaussianMixture:
    """Coordinates of very different scales; one entity has components without weight."""
    mixture = random_mixture(seed, BATCH, count, size)
    log_weights = mixture.log_weights.clone()
    log_weights[0, 1:] = -math.inf
    scale = 10.0 ** torch.linspace(-3, 3, size, dtype=torch.float64)
    covariances = mixture.covariances * scale[:, None] * scale
    return GaussianMixture(log_weights.log_softmax(1), mixture.means * scale, covariances)


@few
@given(seeds, sizes, counts)
def test_the_share_of_noise_equals_that_of_operators(seed: int, size: int, count: int) -> None:
    predicted = scaled_mixture(seed, count, size)
    noise = 0.1 * random_covariances(seed + 9, BATCH, dimension=size)
    noise[1] = 0.0
    expected = share(noise, predicted.moments()[1])
    for found, wanted in zip(
        native_accumulated_error.share_of_noise(noise, predicted), expected, strict=True
    ):
        assert_near(found, wanted, 1e-9)


@few
@given(seeds, sizes, counts)
def test_the_share_of_a_posterior_equals_that_of_operators(seed: int, size: int, count: int) -> None:
    prior, posterior = scaled_mixture(seed, count, size), scaled_mixture(seed + 5, 1, size)
    expected = share(posterior.moments()[1], prior.moments()[1])
    found = native_accumulated_error.share_of_posterior(posterior, prior)
    for each, wanted in zip(found, expected, strict=True):
        assert_near(each, wanted, 1e-9)


def test_what_is_not_a_number_shares_everything_and_teaches_nothing() -> None:
    whole, none = random_mixture(0, 1, 1, 2), torch.full((1, 2, 2), math.nan, dtype=torch.float64)
    for found, expected in zip(
        native_accumulated_error.share_of_noise(none, whole), share(none, whole.moments()[1]), strict=True
    ):
        assert_near(found, expected, 0.0)
