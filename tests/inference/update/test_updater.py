from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.evaluation.exact.grid import grid_posterior
from tests.inference.problems import sampled, updater

DOUBLE = torch.float64


def one_gaussian(mean: list[float], covariance: np.ndarray) -> GaussianMixture:
    return GaussianMixture.gaussian(torch.tensor([mean], dtype=DOUBLE), torch.as_tensor(covariance)[None])


def track() -> tuple[GaussianMixture, np.ndarray]:
    """A position and velocity with correlation between them, as motion makes it."""
    covariance = np.array([[4.0, 0, 1.5, 0], [0, 4.0, 0, 1.5], [1.5, 0, 1.0, 0], [0, 1.5, 0, 1.0]])
    return one_gaussian([10.0, -5.0, 1.0, 0.5], covariance), covariance


def test_linear_sensors_give_the_kalman_posterior_and_evidence() -> None:
    prior, covariance = track()
    sensor = sensors.position([0, 1], 4, np.diag([0.5, 0.8]))
    value = np.array([11.0, -6.0])
    result = updater().update(prior, encode([[Reading(sensor, value)]], 4))
    rows = np.eye(4)[:2]
    innovation = rows @ covariance @ rows.T + np.diag([0.5, 0.8])
    gain = covariance @ rows.T @ np.linalg.inv(innovation)
    residual = value - np.array([10.0, -5.0])
    mean = np.array([10.0, -5.0, 1.0, 0.5]) + gain @ residual
    posterior = covariance - gain @ innovation @ gain.T
    np.testing.assert_allclose(result.posterior.means[0, 0], mean, atol=1e-9)
    np.testing.assert_allclose(result.posterior.covariances[0, 0], posterior, atol=1e-9)
    expected = -0.5 * residual @ np.linalg.solve(innovation, residual)
    expected -= 0.5 * np.linalg.slogdet(2 * np.pi * innovation)[1]
    assert float(result.log_evidence[0]) == pytest.approx(expected, abs=1e-9)
    assert int(result.method[0]) == Method.KALMAN
    assert float(result.sample_efficiency[0]) == 1.0


def test_the_network_agrees_with_kalman_on_linear_gaussian_problems() -> None:
    # an outlier probability of 1e-9 sends them through the network, and changes the exact answer by nothing
    prior, _ = track()
    sensor = sensors.position([0, 1], 4, np.diag([0.5, 0.8]))
    reading = Reading(sensor, np.array([11.0, -6.0]))
    exact = updater().update(prior, encode([[reading]], 4))
    seen = encode([[Reading(replace(sensor, outlier_probability=1e-9), reading.value)]], 4)
    with_network = Updater(updater().network, settings=UpdateSettings(linear_below=0.0, quadrature_below=0.0))
    answer = with_network.update(prior, seen)
    assert int(answer.method[0]) in (Method.TRANSFORMER, Method.REFINED)
    mean, covariance = answer.posterior.moments()
    true_mean, true_covariance = exact.posterior.moments()
    spread = la.trace(true_covariance).sqrt()
    assert float((mean - true_mean).norm() / spread) < 0.05
    assert float((covariance - true_covariance).norm() / true_covariance.norm()) < 0.1
    assert float(answer.sample_efficiency[0]) > 0.9


def divergences_of(result: Answer, prior: GaussianMixture, observations: Observations) -> torch.Tensor:
    found = []
    for row in range(prior.batch):
        one = slice(row, row + 1)
        exact = grid_posterior(prior.rows(one), observations.rows_of(one))
        found.append(exact.divergence(result.posterior.rows(one)))
    return torch.tensor(found)


def test_posteriors_are_near_the_grid() -> None:
    prior, observations, _ = sampled(64, seed=5)
    divergence = divergences_of(updater().update(prior, observations), prior, observations)
    assert float(divergence.min()) > -1e-6
    assert float(divergence.median()) < 0.015
    assert float(divergence.mean()) < 0.03


def test_the_sample_efficiency_tells_which_answers_are_poor() -> None:
    prior, observations, _ = sampled(64, seed=5)
    chosen = UpdateSettings(refine_below=0.0, quadrature_below=0.0)
    plain = Updater(updater().network, settings=chosen)
    result = plain.update(prior, observations)
    divergence = divergences_of(result, prior, observations)
    good = result.sample_efficiency > 0.9
    assert 10 < int(good.sum()) < 60
    assert float(divergence[good].mean()) < 0.05
    assert float(divergence[good].mean()) < 0.5 * float(divergence[~good].mean())


def test_log_evidence_is_near_the_grid_where_the_sample_efficiency_is_high() -> None:
    prior, observations, _ = sampled(32, seed=6)
    result = updater().update(prior, observations)
    errors = []
    for row in torch.nonzero(result.sample_efficiency > 0.6)[:, 0].tolist():
        one = slice(row, row + 1)
        exact = grid_posterior(prior.rows(one), observations.rows_of(one))
        errors.append(abs(float(result.log_evidence[row]) - exact.log_evidence))
    assert len(errors) >= 10
    assert float(np.mean(errors)) < 0.08


def test_a_coordinate_that_no_sensor_touches_follows_exactly() -> None:
    prior, covariance = track()
    sensor = sensors.range_to([0, 1], 4, [0.0, 0.0], 0.3)
    result = updater().update(prior, encode([[Reading(sensor, np.array([10.5]))]], 4))
    # given the position, the velocity is as uncertain as it was, so its distribution follows from the position's
    seen, rest = covariance[:2, :2], covariance[2:, :2]
    gain = rest @ np.linalg.inv(seen)
    conditional = covariance[2:, 2:] - gain @ rest.T
    mean, total = (part[0].numpy() for part in result.posterior.moments())
    expected = np.array([1.0, 0.5]) + gain @ (mean[:2] - np.array([10.0, -5.0]))
    np.testing.assert_allclose(mean[2:], expected, atol=1e-6)
    np.testing.assert_allclose(total[2:, 2:], conditional + gain @ total[:2, :2] @ gain.T, atol=1e-6)


def moved(
    prior: GaussianMixture, observations: Observations, matrix: torch.Tensor, shift: torch.Tensor
) -> tuple[GaussianMixture, Observations]:
    """The same problem in coordinates y = matrix x + shift, matrix orthogonal up to scale."""
    inverse = torch.linalg.inv(matrix)
    size = prior.dimension
    there = GaussianMixture(
        prior.log_weights, prior.means @ matrix.T + shift, matrix @ prior.covariances @ matrix.T
    )
    rows = observations.matrix @ inverse
    offset = rows @ shift
    linear = (observations.kind == 0)[..., None]
    scale = float(matrix.det().abs() ** (1 / size))
    ranged = observations.kind == 1
    return there, replace(
        observations,
        matrix=torch.where(linear[..., None], rows, rows * scale),
        origin=torch.where(linear, observations.origin, (observations.origin + offset) * scale),
        value=torch.where(
            linear,
            observations.value + offset,
            torch.where(ranged[..., None], observations.value * scale, observations.value),
        ),
        standard_deviation=torch.where(
            ranged, observations.standard_deviation * scale, observations.standard_deviation
        ),
        log_scale=torch.where(ranged, observations.log_scale + np.log(scale), observations.log_scale),
        outlier_log_density=torch.where(
            ranged, observations.outlier_log_density - np.log(scale), observations.outlier_log_density
        ),
    )


@functools.cache
def answered_plainly() -> tuple[GaussianMixture, Observations, Updater, Answer]:
    """Problems, and their answers by an updater that neither refines nor merges."""
    prior, observations, _ = sampled(24, seed=7)
    plain = Updater(updater().network, settings=replace(updater().settings, refine_below=0, merge_below=0))
    return prior, observations, plain, plain.update(prior, observations)


@settings(max_examples=8, deadline=None)
@given(angle=st.floats(0, 6.28), scale=st.floats(0.01, 1000), x=st.floats(-50, 50), y=st.floats(-50, 50))
def test_the_answer_moves_with_shift_rotation_and_units(
    angle: float, scale: float, x: float, y: float
) -> None:
    prior, observations, plain, here = answered_plainly()
    turn = (
        torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=DOUBLE) * scale
    )
    shift = torch.tensor([x, y], dtype=DOUBLE) * scale
    there = plain.update(*moved(prior, observations, turn, shift))
    mean, covariance = here.posterior.moments()
    moved_mean, _ = there.posterior.moments()
    spread = la.trace(covariance).sqrt()
    error = (moved_mean - (mean @ turn.T + shift)).norm(dim=-1) / scale
    # the fixed offsets of duplicates and Cholesky factors are not rotated, so rotation holds where they do not matter
    close = error / spread < 0.2
    assert float(close.double().mean()) > 0.8
    if abs(angle) < 1e-12:
        assert bool((error / spread < 1e-2).all())


def test_units_and_origin_do_not_matter_at_all() -> None:
    prior, observations, _ = sampled(24, seed=8)
    matrix = 250.0 * torch.eye(2, dtype=DOUBLE)
    shift = torch.tensor([4000.0, -900.0], dtype=DOUBLE)
    here = updater().update(prior, observations)
    there = updater().update(*moved(prior, observations, matrix, shift))
    mean, covariance = here.posterior.moments()
    moved_mean, _ = there.posterior.moments()
    error = (moved_mean - (mean @ matrix.T + shift)).norm(dim=-1) / 250.0
    assert float((error / la.trace(covariance).sqrt()).max()) < 1e-2


def test_the_order_of_components_and_of_observations_does_not_matter() -> None:
    prior, observations, _ = sampled(16, seed=9)
    shuffle = torch.randperm(prior.components, generator=torch.Generator().manual_seed(0))
    places = torch.randperm(observations.kind.shape[1], generator=torch.Generator().manual_seed(1))
    shuffled = GaussianMixture(
        prior.log_weights[:, shuffle], prior.means[:, shuffle], prior.covariances[:, shuffle]
    )
    here = updater().update(prior, observations)
    there = updater().update(shuffled, observations.map(lambda tensor: tensor[:, places]))
    mean, covariance = here.posterior.moments()
    moved_mean, _ = there.posterior.moments()
    error = (moved_mean - mean).norm(dim=-1) / la.trace(covariance).sqrt()
    assert float(error.max()) < 1e-2


def test_an_entity_does_not_depend_on_the_others_of_its_batch() -> None:
    prior, observations, _ = sampled(20, seed=10)
    together = updater().update(prior, observations)
    alone = updater().update(prior.rows(slice(3, 4)), observations.rows_of(slice(3, 4)))
    mean, _ = together.posterior.rows(slice(3, 4)).moments()
    np.testing.assert_allclose(alone.posterior.moments()[0], mean, atol=1e-4)


def test_one_entity_with_an_unusable_prior_leaves_the_others_as_they_are() -> None:
    prior, observations, _ = sampled(6, seed=11)
    spoiled = prior.means.clone()
    spoiled[2] = float("nan")
    result = updater().update(GaussianMixture(prior.log_weights, spoiled, prior.covariances), observations)
    right = updater().update(prior, observations)
    for row in (0, 1, 3, 4, 5):
        one = slice(row, row + 1)
        mean, true = result.posterior.rows(one).moments()[0], right.posterior.rows(one).moments()[0]
        np.testing.assert_allclose(mean, true, atol=1e-4)


def test_an_entity_without_an_observation_is_refused() -> None:
    prior, observations, _ = sampled(2, seed=12)
    with pytest.raises(ValueError, match="observations"):
        updater().update(prior, replace(observations, mask=torch.zeros_like(observations.mask)))


def test_refinement_brings_poor_answers_nearer() -> None:
    prior, observations, _ = sampled(96, seed=13)
    plain, refined = (  # without quadrature, which leaves hardly any poor ones
        Updater(updater().network, settings=UpdateSettings(refine_below=below, quadrature_below=0.0)).update(
            prior, observations
        )
        for below in (0.0, 0.8)
    )
    changed = torch.nonzero(refined.method == Method.REFINED)[:, 0].tolist()
    assert len(changed) >= 3
    gains = []
    for row in changed[:12]:
        one = slice(row, row + 1)
        exact = grid_posterior(prior.rows(one), observations.rows_of(one))
        before = exact.divergence(plain.posterior.rows(one))
        gains.append(before - exact.divergence(refined.posterior.rows(one)))
    assert float(np.mean(gains)) > 0


def test_without_a_search_a_poor_answer_is_refined_still() -> None:
    prior, observations, _ = sampled(48, seed=21)
    unsearched = UpdateSettings(search=False, quadrature_below=0.0)
    once = replace(unsearched, refine_below=0.0)
    refined, plain = (
        Updater(weights.load(), settings=chosen, dtype=DOUBLE).update(prior, observations)
        for chosen in (unsearched, once)
    )
    poor = plain.sample_efficiency < 0.8
    assert int(poor.sum()) > 3
    assert bool((refined.method[poor] == Method.REFINED).any())
    assert float(refined.sample_efficiency[poor].mean()) > float(plain.sample_efficiency[poor].mean())


def test_an_updater_with_other_components_is_made_once() -> None:
    """It keeps its own copies of the network in double precision, which take milliseconds."""
    chosen = Updater(updater().network)
    other = chosen.with_components(4)
    assert other.settings.components == 4
    assert chosen.with_components(4) is other
    assert chosen.with_components(chosen.settings.components) is chosen
