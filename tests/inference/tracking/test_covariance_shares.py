"""Shares of covariances, from which an accumulated error fades, against LAPACK."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.tracking.accumulated_error import GROWTH, AccumulatedError, AccumulatedErrors
from tests.inference.plain_models import assert_near, random_covariances, random_mixture

few = settings(max_examples=40, deadline=None)
seeds, sizes, counts = st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9)
BATCH = 3
ERRORS = AccumulatedErrors.of([AccumulatedError(1.0)] * BATCH)


def scaled_mixture(seed: int, count: int, size: int) -> GaussianMixture:
    """Coordinates of very different scales; one entity has components without weight."""
    mixture = random_mixture(seed, BATCH, count, size)
    log_weights = mixture.log_weights.clone()
    log_weights[0, 1:] = -math.inf
    scale = 10.0 ** torch.linspace(-3, 3, size, dtype=torch.float64)
    covariances = mixture.covariances * scale[:, None] * scale
    return GaussianMixture(log_weights.log_softmax(1), mixture.means * scale, covariances)


def plainly(part: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
    """``trace(part whole⁻¹) / D`` and ``½ log det(whole part⁻¹)``, each ``(B,)``."""
    trace = torch.linalg.solve(whole, part).diagonal(dim1=-2, dim2=-1).sum(-1)
    return trace / whole.shape[-1], 0.5 * (torch.logdet(whole) - torch.logdet(part))


@few
@given(seeds, sizes, counts)
def test_the_share_of_noise_is_its_trace_beside_the_covariance(seed: int, size: int, count: int) -> None:
    predicted = scaled_mixture(seed, count, size)
    noise = 0.1 * random_covariances(seed + 9, BATCH, dimension=size)
    noise[1] = 0.0
    left = plainly(noise, predicted.moments()[1])[0].clamp(max=1.0)
    found = ERRORS.moved(predicted, noise).table
    assert_near(torch.from_numpy(found[:, 0]), 1 - left, 1e-7)
    assert found[1, 0] == found[1, 3] == 1.0


@few
@given(seeds, sizes, counts)
def test_the_share_of_a_posterior_and_its_information(seed: int, size: int, count: int) -> None:
    prior, posterior = scaled_mixture(seed, count, size), scaled_mixture(seed + 5, 1, size)
    ratio, information = plainly(posterior.moments()[1], prior.moments()[1])
    found = torch.from_numpy(ERRORS.updated(prior, posterior).table)
    assert_near(found[:, 0], ratio.clamp(max=GROWTH).sqrt(), 1e-7)
    assert_near(found[:, 2], information.clamp_min(0.0), 1e-7)


def test_what_is_not_a_number_shares_everything_and_teaches_nothing() -> None:
    whole, none = random_mixture(0, 1, 1, 2), torch.full((1, 2, 2), math.nan, dtype=torch.float64)
    assert ERRORS.rows(torch.tensor([0])).moved(whole, none).table[0].tolist() == [0.0, 0.0, 0.0, 0.0]
    broken = GaussianMixture(whole.log_weights, whole.means, none[:, None])
    assert ERRORS.rows(torch.tensor([0])).updated(whole, broken).table[0].tolist() == [1.0, 0.0, 0.0, 1.0]
