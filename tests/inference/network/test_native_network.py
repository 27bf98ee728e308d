"""The native network against the PyTorch module, which shares no code with it."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import native_network, weights
from beliefstream.inference.network.native_layers import pack
from beliefstream.inference.network.transformer import (
    DistributionTransformer,
    Estimate,
    Tokens,
    duplicate_components,
)
from tests.inference.likelihood.test_observations import sensors
from tests.inference.plain_models import observe, random_mixture

few = settings(max_examples=25, deadline=None)
BATCH = 3


@functools.cache
def network() -> DistributionTransformer:
    return weights.load().double().eval()


def problem(
    seed: int, size: int, count: int, tokens: int, outliers: float, scale: float
) -> tuple[Tokens, Observations]:
    """Priors, with observations of every kind; one entity has fewer of them."""
    prior = random_mixture(seed, BATCH, count, size)
    prior = GaussianMixture(prior.log_weights, prior.means, scale * prior.covariances)
    chosen = [sensors(seed + row, size, outliers)[row:] for row in range(BATCH)]
    return duplicate_components(prior, tokens), observe(*chosen)


def native(given: DistributionTransformer, tokens: Tokens, observations: Observations) -> Estimate:
    return native_network.answer(pack(given), given.configuration.heads, tokens, observations.native)


@few
@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.integers(1, 8),
    st.sampled_from([8, 16]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([1e-3, 1.0, 9.0]),
)
def test_the_native_network_gives_what_the_module_gives(
    seed: int, size: int, count: int, tokens: int, outliers: float, scale: float
) -> None:
    given_tokens, observations = problem(seed, size, count, tokens, outliers, scale)
    with torch.inference_mode():
        expected = network()(given_tokens, observations)
    found = native(network(), given_tokens, observations)
    for each, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(each, wanted, rtol=1e-8, atol=1e-8 * max(1.0, float(wanted.abs().max())))


def test_an_answer_does_not_depend_on_the_rest_of_its_batch() -> None:
    tokens, observations = problem(3, 2, 4, 8, 0.1, 1.0)
    together = native(network(), tokens, observations)
    for row in range(BATCH):
        alone = native(
            network(),
            Tokens(*(part[row : row + 1] for part in tokens)),
            observations.rows_of(slice(row, row + 1)),
        )
        for one, each in zip(alone, together, strict=True):
            assert torch.equal(one[0], each[row])


def test_an_answer_has_the_precision_of_its_tokens() -> None:
    tokens, observations = problem(4, 2, 4, 8, 0.1, 1.0)
    single = Tokens(*(part.float() if part.is_floating_point() else part for part in tokens))
    assert {part.dtype for part in native(network(), single, observations)} == {torch.float32}


def test_what_is_not_a_number_stays_so_and_disturbs_no_other_problem() -> None:
    tokens, observations = problem(5, 2, 4, 8, 0.1, 1.0)
    means = tokens.means.clone()
    means[0] = torch.nan
    answer = native(network(), tokens._replace(means=means), observations)
    assert answer.means[0].isnan().all()
    assert answer.means[1:].isfinite().all()


@pytest.mark.parametrize("trained", [False, True])
def test_packed_weights_are_those_of_the_network_given(trained: bool) -> None:
    tokens, observations = problem(6, 2, 3, 8, 0.1, 1.0)
    chosen = network() if trained else DistributionTransformer().double().eval()
    with torch.inference_mode():
        expected = chosen(tokens, observations)
    torch.testing.assert_close(
        native(chosen, tokens, observations).means, expected.means, rtol=1e-9, atol=1e-9
    )
