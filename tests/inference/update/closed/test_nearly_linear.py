"""The closed form: exact for linear observations, right over many weak ones, refused where it would not be."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.weights import load
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update.closed import nearly_linear
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.updater import Method, Updater
from research.evaluation.exact.grid import grid_posterior
from tests.inference.plain_models import assert_near, numbers, random_mixture


def around(x: float, y: float, deviation: float, batch: int = 1) -> GaussianMixture:
    mean = numbers(x, y).expand(batch, 2)
    return GaussianMixture.gaussian(
        mean, deviation**2 * torch.eye(2, dtype=torch.float64).expand(batch, 2, 2)
    )


def reported(sensor: Sensor, *value: float) -> Observations:
    return encode([[Reading(sensor, np.array(value))]], sensor.dimension)


def radio(x: float, y: float, outliers: float = 0.0) -> Sensor:
    return sensors.signal_strength([0, 1], 2, (x, y), 6.0, -59.0, 1.8, outlier_probability=outliers)


def ranged(deviation: float, outliers: float = 0.0) -> Sensor:
    return sensors.range_to([0, 1], 2, (0.0, 0.0), deviation, outlier_probability=outliers)


def stated_loss(prior: GaussianMixture, observations: Observations) -> torch.Tensor:
    return pose(prior, observations).divergence


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 100), st.floats(0.01, 0.5))
def test_linear_observations_with_outliers_are_exact(seed: int, outliers: float) -> None:
    prior = random_mixture(seed, 1, 3, 2)
    observations = reported(sensors.linear([[1.0, 0.4]], [[0.3]], outliers), 2.5)
    assert float(stated_loss(prior, observations)) == 0.0
    posterior, evidence, _ = nearly_linear.update(prior, observations, 16, 0.0)
    exact = grid_posterior(prior, observations)
    mean, covariance = exact.moments()
    found_mean, found = posterior.moments()
    assert_near(found_mean[0], mean, 2e-3)
    assert_near(found[0], covariance, 1e-2)
    assert float(evidence) == pytest.approx(float(exact.log_evidence), abs=2e-3)


def test_many_weak_observations_do_not_narrow_the_belief_beyond_the_exact_one() -> None:
    generator, truth = np.random.default_rng(1), np.array([12.3, 4.6])
    places = [(7.0, 7.1), (0.7, 6.2), (7.2, 17.6), (13.1, 12.3), (18.1, 11.9), (12.8, 0.3)]
    made = [radio(*place) for place in places]
    updater, belief = Updater(load()), around(12.0, 5.0, 0.6)
    axis = torch.linspace(-3, 3, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis + 12, axis + 5)[None]
    exact = belief.log_density(grid)[0]
    methods: list[int] = []
    for number in range(150):
        place = places[number % len(places)]
        value = -59 - 18 * math.log10(np.linalg.norm(truth - place)) + generator.normal(0, 6)
        observations = reported(made[number % len(places)], value)
        update = updater.update(belief, observations)
        belief, methods = update.posterior, [*methods, int(update.method[0])]
        exact = exact + observations.log_likelihood(grid)[0]
    share = exact.softmax(0)
    mean = share @ grid[0]
    offset = grid[0] - mean
    covariance = (share[:, None] * offset).T @ offset
    found_mean, found = belief.moments()
    assert methods.count(Method.LINEARISED) > 100
    assert_near(found_mean[0], mean, 0.15)
    assert float(torch.logdet(found[0])) == pytest.approx(float(torch.logdet(covariance)), abs=0.5)


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 0.5), st.floats(0.0, 2.0), st.sampled_from([0.0, 0.1]))
def test_where_it_is_used_it_is_near_the_exact_posterior(spread: float, off: float, outliers: float) -> None:
    prior, sensor = around(4.0, 3.0, spread), radio(0.0, 0.0, outliers)
    observations = reported(sensor, -59 - 18 * math.log10(5.0) + 6 * off)
    assert float(stated_loss(prior, observations)) < 0.02
    posterior, evidence, _ = nearly_linear.update(prior, observations, 16, 0.0)
    exact = grid_posterior(prior, observations)
    mean, covariance = exact.moments()
    found_mean, found = posterior.moments()
    assert float((found_mean[0] - mean).norm()) < 0.05 * spread
    assert_near(found[0] / spread**2, covariance / spread**2, 0.05)
    assert float(evidence) == pytest.approx(float(exact.log_evidence), abs=0.01)


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.1]), st.floats(-1.5, 0.5))
def test_the_divergence_that_it_states_is_about_the_one_to_the_exact_posterior(
    seed: int, outliers: float, logarithm: float
) -> None:
    generator = np.random.default_rng(seed)
    place = generator.normal((20.0, 0.0), (8.0, 1.0))
    prior, deviation = around(float(place[0]), float(place[1]), 1.0), 10**logarithm
    value = float(np.linalg.norm(generator.normal(place)) + generator.normal(0, deviation))
    observations = reported(ranged(deviation, outliers), value)
    stated = float(stated_loss(prior, observations))
    posterior, evidence, _ = nearly_linear.update(prior, observations, 16, 0.0)
    exact = grid_posterior(prior, observations)
    found = float(exact.divergence(posterior))
    if stated < 0.02:
        assert found < 2 * stated + 1e-4
        assert float(evidence) == pytest.approx(float(exact.log_evidence), abs=0.1)


def test_what_an_update_explains_does_not_count_as_a_residual() -> None:
    """Three precise ranges move a wide belief by two deviations; a fourth that contradicts them is not linear."""
    truth, anchors = np.array([1.5, -1.2]), [(9e5, 0.0), (-3e5, 8e5), (0.0, -7e5), (-9e5, 0.0)]
    values = [float(np.linalg.norm(truth - anchor)) for anchor in anchors]
    readings = [
        Reading(sensors.range_to([0, 1], 2, anchor, 0.002), np.array([value]))
        for anchor, value in zip(anchors, values, strict=True)
    ]
    prior, fitting = around(0.0, 0.0, 1.0), encode([readings], 2)
    assert float(stated_loss(prior, fitting)) < 0.002
    posterior, _, _ = nearly_linear.update(prior, fitting, 16, 0.0)
    assert float(grid_posterior(prior, fitting).divergence(posterior)) < 0.002
    contradicting = Reading(readings[3].sensor, np.array([values[3] + 2.0]))
    assert float(stated_loss(prior, encode([[*readings[:3], contradicting]], 2))) > 0.02


def test_what_bends_wraps_or_is_not_gaussian_is_left_to_the_network() -> None:
    prior = around(4.0, 3.0, 0.5)
    weak = reported(radio(0.0, 0.0), -71.6)
    assert float(stated_loss(prior, weak)) < 0.001
    assert float(stated_loss(around(0.3, 0.2, 0.5), weak)) > 0.01  # beside the receiver
    assert float(stated_loss(around(4.0, 3.0, 4.0), weak)) > 0.01
    assert float(stated_loss(prior, reported(ranged(0.1), 5.0))) > 0.01
    noise = sensors.Noise(weights=(0.5, 0.5), biases=(0.0, 1.0), ratios=(1.0, 2.0))
    other = reported(replace(radio(0.0, 0.0), noise=noise), -71.6)
    assert float(stated_loss(prior, other)) == math.inf


MIXED = sensors.Noise((0.7, 0.2, 0.1), (0.0, 1.5, -2.0), (1.0, 3.0, 0.5))
ROWS = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -0.3], [0.2, 0.0, 1.0], [1.0, -1.0, 1.0]])
VALUES, DEVIATION = np.array([0.9, 2.4, -1.3, 0.4]), 0.4


def enumerated(outliers: float) -> tuple[float, Array, Array]:
    """Log evidence, mean and covariance over all hypotheses, each a Gaussian; the prior is standard."""
    logs, means, covariances = [], [], []
    for parts in itertools.product(range(3 + bool(outliers)), repeat=len(VALUES)):
        inside = [number for number, part in enumerate(parts) if part < 3]
        chosen = [parts[number] for number in inside]
        rows, variances = ROWS[inside], (DEVIATION * np.array(MIXED.ratios)[chosen]) ** 2
        covariance = np.linalg.inv(np.eye(3) + rows.T @ (rows / variances[:, None]))
        off = VALUES[inside] - np.array(MIXED.biases)[chosen]
        spread = rows @ rows.T + np.diag(variances)
        log = math.log(outliers / 100) * (len(VALUES) - len(inside)) if outliers else 0.0
        log += sum(math.log((1 - outliers) * MIXED.weights[part]) for part in chosen)
        log -= 0.5 * (off @ np.linalg.solve(spread, off) + np.linalg.slogdet(2 * math.pi * spread)[1])
        logs.append(log)
        means.append(covariance @ (rows.T @ (off / variances)))
        covariances.append(covariance)
    shares = np.exp(np.array(logs) - np.logaddexp.reduce(logs))
    mean = shares @ np.array(means)
    away = np.array(means) - mean
    return (
        float(np.logaddexp.reduce(logs)),
        mean,
        np.einsum("h,hij->ij", shares, np.array(covariances) + away[:, :, None] * away[:, None, :]),
    )


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_each_component_of_noise_is_a_hypothesis_beyond_the_plane(outliers: float) -> None:
    readings = [
        Reading(
            replace(
                sensors.linear([row], [[DEVIATION**2]], noise=MIXED),
                outlier_probability=outliers,
                outlier_span=100.0,
            ),
            np.array([value]),
        )
        for row, value in zip(ROWS, VALUES, strict=True)
    ]
    observations = encode([readings], 3)
    prior = GaussianMixture.gaussian(torch.zeros(1, 3).double(), torch.eye(3).double()[None])
    assert float(stated_loss(prior, observations)) < 1e-20
    posterior, evidence, _ = nearly_linear.update(prior, observations, 256, 0.0)
    exact, mean, covariance = enumerated(outliers)
    assert float(evidence) == pytest.approx(exact, abs=1e-5)  # negligible ones are left out
    for found, expected in zip(posterior.moments(), (mean, covariance), strict=True):
        assert_near(found[0], torch.from_numpy(expected), 1e-3)
    _, _, lost = nearly_linear.update(prior, observations, 8, 0.002)
    assert 0 < float(lost) < 0.1
    updated = Updater(load()).update(prior, observations)
    assert int(updated.method[0]) in (Method.LINEARISED, Method.KALMAN)
    assert float(updated.log_evidence[0]) == pytest.approx(exact, abs=0.05)


def test_a_function_of_the_user_that_is_linear_has_the_closed_form_of_a_linear_sensor() -> None:
    """With noise of several parts, whose local deviation is another at each point."""
    readings = [
        Reading(
            replace(
                sensors.function(lambda x, row=row: (x * x.new_tensor(row)).sum(), [0, 1, 2], 3, DEVIATION),
                noise=MIXED,
            ),
            np.array([value]),
        )
        for row, value in zip(ROWS, VALUES, strict=True)
    ]
    observations = encode([readings], 3)
    prior = GaussianMixture.gaussian(torch.zeros(1, 3).double(), torch.eye(3).double()[None])
    assert float(stated_loss(prior, observations)) < 1e-9
    updated = Updater(load()).update(prior, observations)
    assert int(updated.method[0]) in (Method.LINEARISED, Method.KALMAN)
    assert float(updated.log_evidence[0]) == pytest.approx(enumerated(0.0)[0], abs=0.05)


def test_noise_of_another_entity_of_the_batch_does_not_matter() -> None:
    prior = around(4.0, 3.0, 0.5)
    noise = sensors.Noise(weights=(0.5, 0.5), biases=(0.0, 1.0), ratios=(1.0, 2.0))
    both = [
        [Reading(radio(0.0, 0.0), np.array([-71.6]))],
        [Reading(replace(radio(0.0, 0.0), noise=noise), np.array([-71.6]))],
    ]
    found = stated_loss(prior.rows(torch.tensor([0, 0])), sensors.encode(both, 2))
    alone = stated_loss(prior, reported(radio(0.0, 0.0), -71.6))
    assert float(found[0]) == pytest.approx(float(alone[0]), rel=1e-9)
    assert float(found[1]) == math.inf


def test_a_heading_that_may_be_any_is_not_taken_for_linear() -> None:
    compass = sensors.heading(2, 3, 3.0)  # weak, and linear but for the turns that it leaves out
    unknown, known = (
        GaussianMixture.gaussian(torch.zeros(1, 3).double(), torch.diag(numbers(1.0, 1.0, variance))[None])
        for variance in (9.0, 0.01)
    )
    assert float(stated_loss(unknown, reported(compass, 0.5))) == math.inf
    assert float(stated_loss(known, reported(compass, 0.5))) < 1e-6


def test_a_function_that_is_bent_beside_its_inflection_is_seen() -> None:
    cubic = sensors.function(lambda state: state[0] ** 3, [0], 2, 4.0)  # no curvature at zero
    assert float(stated_loss(around(0.0, 0.0, 1.0), reported(cubic, 0.5))) > 0.01


def test_entities_without_an_observation_in_a_place_keep_their_belief() -> None:
    prior = random_mixture(3, 2, 3, 2)
    sensor = sensors.linear([[1.0, 0.4]], [[0.3]], 0.1)
    one = Reading(sensor, np.array([1.0]))
    posterior, evidence, _ = nearly_linear.update(prior, encode([[one, one], [one]], 2), 16, 0.0)
    single, single_evidence, _ = nearly_linear.update(prior.rows(slice(1, 2)), encode([[one]], 2), 16, 0.0)
    for found, expected in zip(posterior.rows(slice(1, 2)).moments(), single.moments(), strict=True):
        assert_near(found, expected, 1e-9)
    assert float(evidence[1]) == pytest.approx(float(single_evidence[0]))


@pytest.mark.parametrize("outliers", [0.0, 0.1])
@pytest.mark.parametrize("narrow", [None, 0.003])
def test_a_distance_that_may_turn_back_is_not_linear(narrow: float | None, outliers: float) -> None:
    """An anchor ahead on a line; two fifths of the mass lie beyond it, and nothing at the mean says so."""
    size = 1 if narrow is None else 2
    prior = GaussianMixture.gaussian(
        numbers(*[0.0] * size)[None], torch.diag(numbers(*[1.0, narrow or 0.0][:size]).square())[None]
    )

    def lost(away: float, value: float) -> float:
        sensor = sensors.range_to(range(size), size, [away, 0.0][:size], 0.05, outliers)
        return float(pose(prior, reported(sensor, value), 1.0).divergence)

    assert lost(2.2, 0.1) == math.inf
    assert lost(4.0, 0.5) == math.inf
    assert lost(40.0, 40.1) < 1e-4


def test_a_line_that_leads_to_an_anchor_keeps_the_part_beyond_it() -> None:
    """Against the exact moments: of what lies on both sides, an update was 2.6 nats off and said 0."""
    prior = GaussianMixture.gaussian(numbers(0.0)[None], numbers(1.0)[None, None])
    observations = reported(sensors.range_to([0], 1, [2.2], 0.05), 0.1)
    found = Updater(load()).update(prior, observations)
    points = np.linspace(1.5, 3.0, 30_001)
    log = -0.5 * points**2 - 0.5 * ((0.1 - np.abs(points - 2.2)) / 0.05) ** 2
    share = np.exp(log - log.max())
    share /= share.sum()
    exactly = np.log(np.maximum(share, 1e-300) / (points[1] - points[0]))
    answered = found.posterior.log_density(torch.from_numpy(points)[None, :, None])[0].numpy()
    assert share[points > 2.2].sum() > 0.3
    assert float(share @ (exactly - answered)) < 0.1
