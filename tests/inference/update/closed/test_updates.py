"""Posed problems and updates in closed form against the same formulas, written plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import chi2, multivariate_normal
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Linearisation, Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.weights import load
from beliefstream.inference.update.closed import nearly_linear
from beliefstream.inference.update.closed.kalman import exact
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater
from tests.inference.likelihood import operators
from tests.inference.likelihood.test_observations import sensors
from tests.inference.plain_models import observe, random_mixture
from tests.inference.update.methods import unasked

few = settings(max_examples=40, deadline=None)
seeds, sizes, counts = st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9)
probabilities = st.sampled_from([0.0, 1e-9, 0.1, 1.0])
spreads = st.sampled_from([1e-3, 0.1, 1.0, 30.0])
BATCH = 4
EVERY = torch.arange(BATCH)


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


@few
@given(seed=seeds, size=sizes, count=counts, probability=probabilities, spread=spreads)
def test_a_problem_is_posed_in_coordinates_of_unit_spread(
    seed: int, size: int, count: int, probability: float, spread: float
) -> None:
    prior, observations = problem(seed, size, count, probability, spread)
    posed = pose(prior, observations, 0.01)
    scaled, ordered = posed.scaled, prior.ordered()
    assert_same_mixture(posed.prior, ordered)
    mean, covariance = prior.moments()
    assert bool(posed.touched.all())
    assert_equal(scaled.shift, mean)
    assert_equal(scaled.scale, covariance.diagonal(dim1=-2, dim2=-1).mean(1).sqrt())
    assert_same_mixture(scaled.prior, ordered.in_coordinates(scaled.shift, scaled.scale), 1e-9)
    seen = observations.in_coordinates(scaled.shift, scaled.scale)
    for name in ("value", "matrix", "origin", "heading", "standard_deviation"):
        assert_equal(getattr(scaled.observations, name), getattr(seen, name), 1e-9)
    factors = torch.linalg.cholesky(scaled.prior.covariances)
    expected = operators.by_operators(seen, scaled.prior.means, factors)
    used = seen.mask[:, None].expand(-1, count, -1)
    for one, other in zip(scaled.linear[:3], expected[:3], strict=True):
        assert_equal(one[used], other[used], 1e-8)
    gradient = torch.where(used[..., None], expected.gradient, 0.0).sum(2)
    information = torch.where(used[..., None, None], expected.information, 0.0).sum(2)
    grown = torch.eye(size, dtype=torch.float64) + information
    squared = torch.where(used, expected.residuals.squared, 0.0).sum(2)
    gain = torch.linalg.inv(grown)
    explained = torch.einsum("bki,bkij,bkj->bk", gradient, gain, gradient)
    assert_equal(scaled.prediction.gain, gain, 1e-8)
    # what is left of a large square has the rounding of that
    largest = 1e-9 * float(squared.max()) + 1e-8
    torch.testing.assert_close(scaled.prediction.distance, squared - explained, rtol=1e-8, atol=largest)


def gaussians(mixture: GaussianMixture, row: int) -> list[tuple[float, Tensor, Tensor]]:
    present = torch.nonzero(mixture.present[row])[:, 0].tolist()
    parts = mixture.log_weights[row], mixture.means[row], mixture.covariances[row]
    return [(float(parts[0][k]), parts[1][k], parts[2][k]) for k in present]


def kalman(
    mean: Tensor, covariance: Tensor, matrix: Tensor, value: Tensor, wider: float = 1.0
) -> tuple[float, Tensor, Tensor]:
    """Evidence, mean and covariance after a report of a linear sensor, whose noise is `wider` than the identity."""
    predicted = matrix @ covariance @ matrix.mT + wider**2 * torch.eye(len(matrix), dtype=torch.float64)
    off = value - matrix @ mean
    gain = covariance @ matrix.mT @ torch.linalg.inv(predicted)
    normal = multivariate_normal(np.zeros(len(off)), predicted.numpy())
    return float(normal.logpdf(off.numpy())), mean + gain @ off, covariance - gain @ matrix @ covariance


def rows_of(observations: Observations, row: int, place: int) -> tuple[Tensor, Tensor, float]:
    """Matrix and value of a linear observation, and the log of the scale of its density."""
    count = int(observations.rows[row, place])
    scale = float(observations.log_scale[row, place])
    return observations.matrix[row, place, :count], observations.value[row, place, :count], scale


@few
@given(seed=seeds, size=sizes, count=counts, spread=st.sampled_from([0.1, 1.0, 30.0]))
def test_the_exact_posterior_is_that_of_kalman_updates(
    seed: int, size: int, count: int, spread: float
) -> None:
    prior, observations = problem(seed, size, count, 0.0, spread)
    observations = linear_only(observations)
    problems = Problems.of(prior, observations, UpdateSettings(), unasked)
    (posterior, evidence), p_value = exact(problems.posed, EVERY), problems.p_value
    for row in range(BATCH):
        several = [
            rows_of(observations, row, n) for n in torch.nonzero(observations.mask[row])[:, 0].tolist()
        ]
        matrix, value = torch.cat([m for m, _, _ in several]), torch.cat([v for _, v, _ in several])
        lost, tail, logs = sum(scale for _, _, scale in several), 0.0, []
        found = gaussians(posterior, row)
        for (weight, mean, covariance), (own, its_mean, its_covariance) in zip(
            gaussians(prior.ordered(), row), found, strict=True
        ):
            likely, expected, narrower = kalman(mean, covariance, matrix, value)
            logs.append(weight + likely - lost)
            assert_equal(its_mean, expected, 1e-7)
            assert_equal(its_covariance, narrower, 1e-7)
            off = value - matrix @ mean
            squared = off @ torch.linalg.inv(matrix @ covariance @ matrix.mT + torch.eye(len(matrix))) @ off
            tail += math.exp(weight) * float(chi2.sf(float(squared), len(value)))
            assert own - found[0][0] == pytest.approx(logs[-1] - logs[0], abs=1e-6)
        assert float(evidence[row]) == pytest.approx(
            float(torch.tensor(logs).logsumexp(0)), rel=1e-6, abs=1e-6
        )
        assert float(p_value[row]) == pytest.approx(tail, rel=1e-6, abs=1e-9)


@few
@given(seed=seeds, size=sizes, count=counts, probability=probabilities, spread=st.sampled_from([0.1, 1.0]))
def test_every_hypothesis_is_an_update_of_its_own(
    seed: int, size: int, count: int, probability: float, spread: float
) -> None:
    """Of linear observations the exact one; of others that of the expansion to second order."""
    prior, seen = problem(seed, size, count, probability, spread)
    linear = operators.by_operators(seen, prior.means, torch.linalg.cholesky(prior.covariances))
    order = nearly_linear.order(prior, seen, seen.linearise(prior.means, prior.factors()))
    said = linear.information.diagonal(dim1=-2, dim2=-1).sum(-1) + linear.residuals.squared
    said = torch.where(seen.mask, (said * prior.log_weights.exp()[..., None]).sum(1), -1.0)
    assert bool((said.gather(1, order).diff(dim=1) <= 1e-9 * said.abs().amax()).all())
    for places in order.unbind(1):
        found = nearly_linear.hypotheses(prior, seen, places)
        for row, place in enumerate(places.tolist()):
            if not bool(seen.mask[row, place]):
                continue
            for k in torch.nonzero(prior.present[row])[:, 0].tolist():
                weight, mean, covariance = (
                    float(prior.log_weights[row, k]),
                    prior.means[row, k],
                    prior.covariances[row, k],
                )
                if int(seen.kind[row, place]) == LINEAR:
                    matrix, value, scale = rows_of(seen, row, place)
                    expected = kalman(mean, covariance, matrix, value)
                else:
                    scale = float(seen.log_scale[row, place])
                    expected = second_order(mean, covariance, linear, (row, k, place))
                if probability < 1:
                    likely = weight + expected[0] - scale + math.log1p(-probability)
                    assert_part(found, row, k, (likely, *expected[1:]))
                if probability > 0:
                    if int(seen.kind[row, place]) == LINEAR:
                        likely, moved, narrower = kalman(mean, covariance, matrix, value, 10.0)
                        likely -= scale
                    else:
                        likely, moved, narrower = (
                            float(seen.outlier_log_density[row, place]),
                            mean,
                            covariance,
                        )
                    likely += weight + math.log(probability)
                    assert_part(found, row, count + k, (likely, moved, narrower))


def second_order(
    mean: Tensor, covariance: Tensor, linear: Linearisation, at: tuple[int, int, int]
) -> tuple[float, Tensor, Tensor]:
    """Evidence, mean and covariance by the mean and variance of the observation's expansion to second order."""
    factor, slope, bend = torch.linalg.cholesky(covariance), linear.slope[at], linear.curvature[at]
    off = float(linear.residuals.signed[at] - bend.trace() / 2)
    variance = 1 + slope @ slope + (bend @ bend).trace() / 2
    gain = factor @ slope / variance
    evidence = -0.5 * (off**2 / float(variance) + math.log(2 * math.pi * float(variance)))
    return evidence, mean + gain * off, covariance - variance * torch.outer(gain, gain)


def assert_part(mixture: GaussianMixture, row: int, k: int, expected: tuple[float, Tensor, Tensor]) -> None:
    assert float(mixture.log_weights[row, k]) == pytest.approx(expected[0], rel=1e-7, abs=1e-7)
    assert_equal(mixture.means[row, k], expected[1], 1e-7)
    assert_equal(mixture.covariances[row, k], expected[2], 1e-7)


def closed(prior: GaussianMixture, observations: Observations) -> Answer:
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
def test_the_p_value_is_the_tail_of_the_chi_square_distribution(rows: int) -> None:
    at = torch.logspace(-12, 2.7, 200, dtype=torch.float64)
    expected = torch.special.gammaincc(torch.full_like(at, rows / 2), at)
    freedom, certain = torch.full_like(at, rows), torch.zeros(len(at), 1, dtype=torch.float64)
    found = p_value(certain, 2 * at[:, None], freedom)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    ends = torch.tensor([[0.0], [math.inf]], dtype=torch.float64)
    assert p_value(certain[:2], ends, freedom[:2]).tolist() == [1.0, 0.0]


def p_value(log_weights: Tensor, distance: Tensor, rows: Tensor) -> Tensor:
    means = torch.zeros(*log_weights.shape, 1, dtype=torch.float64)
    prior = GaussianMixture(log_weights, means, means[..., None] + 1)
    return Prediction(means, means, means, distance, distance, rows).p_value(prior)
