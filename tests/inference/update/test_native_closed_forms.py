"""The native scaling and closed forms against PyTorch's operators, which share no code with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.likelihood import native_surprise
from beliefstream.inference.likelihood.observations import LINEAR, Observations
from beliefstream.inference.mixtures import native_forms
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.weights import load
from beliefstream.inference.update import native_nearly_linear, nearly_linear
from beliefstream.inference.update.reduction_cost import condense
from beliefstream.inference.update.result import VECTORS, Method, Update
from beliefstream.inference.update.scaled_problem import Posed, pose, pose_by_operators
from beliefstream.inference.update.updater import Updater
from tests.inference.likelihood.test_observations import sensors
from tests.inference.plain_models import observe, random_mixture

few = settings(max_examples=40, deadline=None)
seeds, sizes, counts = st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9)
probabilities = st.sampled_from([0.0, 1e-9, 0.1, 1.0])
spreads = st.sampled_from([1e-3, 0.1, 1.0, 30.0])
BATCH = 4
EVERY = torch.arange(BATCH)


@contextmanager
def only_operators() -> Iterator[None]:
    with mock.patch.object(native_forms, "_module", return_value=None):
        yield


def problem(
    seed: int, size: int, count: int, probability: float, spread: float
) -> tuple[GaussianMixture, Observations]:
    """Priors of which some components are absent, and observations of every kind, of which one entity has fewer."""
    mixture = random_mixture(seed, BATCH, count, size)
    absent = torch.rand(BATCH, count, generator=torch.Generator().manual_seed(seed)) < 0.3
    absent[:, 0] = False
    log_weights = mixture.log_weights.masked_fill(absent, -math.inf).log_softmax(1)
    prior = GaussianMixture(log_weights, spread * mixture.means, spread**2 * mixture.covariances)
    chosen = [sensors(seed + row, size, probability) for row in range(BATCH)]
    return prior, observe(*chosen[:-1], chosen[-1][:2])


def linear_only(observations: Observations) -> Observations:
    return replace(observations, mask=observations.mask & (observations.kind == LINEAR))


def fresh(observations: Observations) -> Observations:
    """The same observations, without what is known of them."""
    return replace(observations)


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    # rounding is beside the largest terms of a sum
    largest = max([1.0, *expected[expected.isfinite()].double().abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def assert_same_mixture(found: GaussianMixture, expected: GaussianMixture, tolerance: float = 1e-12) -> None:
    present = expected.present
    assert torch.equal(found.present, present)
    assert_equal(found.log_weights[present].exp(), expected.log_weights[present].exp(), tolerance)
    assert_equal(found.means[present], expected.means[present], tolerance)
    assert_equal(found.covariances[present], expected.covariances[present], tolerance)


def parts(posed: Posed) -> list[Tensor]:
    scaled, prior = posed.scaled, posed.prior
    seen, used = scaled.observations, scaled.observations.mask[:, None]
    linear = [
        torch.where(used.view(*used.shape, *[1] * (part.dim() - 3)), part, 0.0) for part in scaled.linear[:4]
    ]
    return [
        prior.log_weights.exp(),
        *(prior.means, prior.covariances, posed.touched, scaled.shift, scaled.scale),
        *(scaled.prior.means, scaled.prior.covariances),
        *(seen.value, seen.matrix, seen.origin, seen.heading, seen.standard_deviation),
        *linear,
        *(torch.where(used, part, 0.0) for part in scaled.linear.residuals[:2]),
        *scaled.prediction,
        posed.divergence,
    ]


@few
@given(seed=seeds, size=sizes, count=counts, probability=probabilities, spread=spreads)
def test_native_and_operators_pose_alike(
    seed: int, size: int, count: int, probability: float, spread: float
) -> None:
    prior, observations = problem(seed, size, count, probability, spread)
    with only_operators():
        expected = pose_by_operators(prior, fresh(observations), 0.01)
    for one, other in zip(parts(pose(prior, observations, 0.01)), parts(expected), strict=True):
        assert_equal(one, other, 1e-11 if spread > 1 else 1e-12)


@few
@given(seed=seeds, size=sizes, count=counts, spread=spreads)
def test_native_and_operators_have_the_same_exact_posterior(
    seed: int, size: int, count: int, spread: float
) -> None:
    prior, observations = problem(seed, size, count, 0.0, spread)
    posed = pose(prior, linear_only(observations))
    found, evidence, surprise = posed.exact(EVERY)
    with only_operators():
        expected, its_evidence, its_surprise = posed.scaled.exact(EVERY)
    assert_same_mixture(found, expected)
    assert_equal(evidence, its_evidence)
    assert_equal(surprise, its_surprise)


@few
@given(
    seed=seeds, size=sizes, count=counts, probability=probabilities, spread=st.sampled_from([1e-3, 0.1, 1.0])
)
def test_native_and_operators_linearise_every_hypothesis_alike(
    seed: int, size: int, count: int, probability: float, spread: float
) -> None:
    scaled = pose(*problem(seed, size, count, probability, spread)).scaled
    seen, linear = scaled.observations, scaled.linear
    order = native_nearly_linear.order(scaled.prior, seen, linear)
    assert torch.equal(order, nearly_linear.order_by_operators(scaled.prior, seen, linear))
    for places in order.unbind(1):
        found = native_nearly_linear.hypotheses(scaled.prior, seen, places)
        with only_operators():
            expected = nearly_linear.hypotheses_by_operators(scaled.prior, fresh(seen), places)
        used = min(found.components, expected.components)
        assert not found.present[:, used:].any()
        present = expected.present[:, :used]
        assert torch.equal(found.present[:, :used], present)
        for one, other in (
            (found.log_weights, expected.log_weights),
            (found.means, expected.means),
            (found.covariances, expected.covariances),
        ):
            assert_equal(one[:, :used][present], other[:, :used][present])


@few
@given(seed=seeds, size=sizes, count=st.integers(1, 24), most=st.integers(1, 16))
def test_native_and_operators_bound_the_loss_alike(seed: int, size: int, count: int, most: int) -> None:
    mixture = problem(seed, size, count, 0.0, 1.0)[0]
    found, loss = condense(mixture, most, 0.01)
    with only_operators():
        expected, other = condense(mixture, most, 0.01)
    assert_same_mixture(found, expected)
    assert_equal(loss, other)


@pytest.mark.parametrize("outliers", [0.0, 0.05])
def test_an_update_is_the_one_of_operators(outliers: float) -> None:
    network = load()
    for seed in range(5):
        prior, observations = problem(seed, 3, 4, outliers, 0.02)
        found = Updater(network).update(prior, linear_only(observations))
        with only_operators():
            expected = Updater(network).update(prior, fresh(linear_only(observations)))
        assert set(found.method.tolist()) == {Method.KALMAN}
        assert_same_mixture(found.posterior, expected.posterior)
        for name in VECTORS:
            assert_equal(getattr(found, name), getattr(expected, name))


def closed(prior: GaussianMixture, observations: Observations) -> Update:
    return Updater(load()).update(prior, observations)


def test_an_entity_alone_has_the_bytes_that_it_has_in_a_batch() -> None:
    prior, observations = problem(3, 3, 4, 0.05, 0.02)
    observations = linear_only(observations)
    together = closed(prior, observations)
    for row in range(BATCH):
        some = torch.tensor([row])
        alone = closed(prior.rows(some), observations.rows_of(some)).posterior
        places = alone.components
        assert torch.equal(alone.log_weights[0], together.posterior.log_weights[row, :places])
        assert torch.equal(alone.means[0], together.posterior.means[row, :places])
        assert torch.equal(alone.covariances[0], together.posterior.covariances[row, :places])


def test_a_number_that_is_none_stays_with_its_entity() -> None:
    prior, observations = problem(4, 2, 3, 0.0, 0.1)
    observations = linear_only(observations)
    expected = closed(prior, observations).posterior
    prior.means[1] = math.nan
    found = closed(prior, observations).posterior
    others = torch.tensor([0, 2, 3])
    assert bool(found.means[1, 0].isnan().all())
    assert torch.equal(found.means[others, :3], expected.means[others, :3])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 12, 36])
def test_the_surprise_is_the_tail_of_the_chi_square_distribution(rows: int) -> None:
    at = torch.logspace(-12, 2.7, 200, dtype=torch.float64)
    expected = torch.special.gammaincc(torch.full_like(at, rows / 2), at)
    freedom, certain = torch.full_like(at, rows), torch.zeros(len(at), 1, dtype=torch.float64)
    found = native_surprise.surprise(certain, 2 * at[:, None], freedom)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    ends = torch.tensor([[0.0], [math.inf]], dtype=torch.float64)
    assert native_surprise.surprise(certain[:2], ends, freedom[:2]).tolist() == [1.0, 0.0]
