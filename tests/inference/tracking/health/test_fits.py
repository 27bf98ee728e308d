"""How readings fit their prediction: against formulas written out in numpy, and by draws from the model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Noise, Reading, Sensor, bearing, composite, position, range_to
from beliefstream.inference.tracking.health.columns import ASSUMED_OUTLIERS, Array, Fit
from beliefstream.inference.tracking.health.fits import fits

MEAN, COVARIANCE = np.array([3.0, 4.0]), np.array([[0.04, 0.01], [0.01, 0.02]])
GPS = position([0, 1], 2, np.array([[0.25, 0.1], [0.1, 0.16]]))


def mixture(weights: list[float], means: Array, covariances: Array) -> GaussianMixture:
    parts = (np.array([weights]), means[None], covariances[None])
    return GaussianMixture.from_weights(*map(torch.from_numpy, parts))


PRIOR = mixture([1.0], MEAN[None], COVARIANCE[None])
TWO = mixture(
    [0.3, 0.7], np.array([[30.0, 40.0], [33.0, 44.0]]), np.array([0.3**2 * np.eye(2), 0.4**2 * np.eye(2)])
)


def fit(prior: GaussianMixture, *readings: tuple[Sensor, list[float]]) -> Array:
    (found,) = fits([[Reading(sensor, np.array(value)) for sensor, value in readings]], prior)
    return found


def test_a_vector_has_a_channel_for_each_number_with_the_kalman_filters_innovation() -> None:
    value = np.array([3.5, 3.9])
    found = fit(PRIOR, (GPS, value.tolist()))
    spread = np.sqrt(np.diag(COVARIANCE + GPS.covariance))
    expected = (value - MEAN) / spread
    np.testing.assert_allclose(found[:, Fit.SCORE], expected, rtol=1e-9)
    np.testing.assert_allclose(found[:, Fit.DEVIATION], spread, rtol=1e-9)
    np.testing.assert_allclose(found[:, Fit.SHARE], np.sqrt(np.diag(GPS.covariance)) / spread, rtol=1e-9)
    np.testing.assert_allclose(found[:, Fit.PREDICTED], MEAN, rtol=1e-9)
    np.testing.assert_allclose(found[:, Fit.EXCESS], 0.5 * (1 - expected**2), rtol=1e-9)
    np.testing.assert_allclose(found[:, Fit.STATED], ASSUMED_OUTLIERS)


def test_a_reported_covariance_counts() -> None:
    reported = np.diag([9.0, 4.0])
    (found,) = fits([[Reading(GPS, np.array([3.5, 3.9]), reported)]], PRIOR)
    np.testing.assert_allclose(found[:, Fit.DEVIATION], np.sqrt(np.diag(COVARIANCE + reported)), rtol=1e-9)


@pytest.mark.parametrize("deviations", [-12.0, 12.0])
def test_a_score_far_out_is_exact(deviations: float) -> None:
    """`torch.special.ndtr` is zero beyond 8.3 deviations."""
    noise = Noise((1.0,), (1e-3,))  # no plain noise
    for sensor in (position([0], 1, [[1.0]]), range_to([0], 1, (-100.0,), 1.0, noise=noise)):
        prior = mixture([1.0], np.array([[0.0]]), np.array([[[3.0]]]))
        value = deviations * 2 + (100.001 if sensor.noise is not None else 0.0)
        (row,) = fit(prior, (sensor, [value]))
        assert row[Fit.SCORE] == pytest.approx(deviations, rel=1e-6)


def test_of_two_components_with_two_kinds_of_noise_the_score_is_by_all_four_gaussians() -> None:
    noise = Noise((0.8, 0.2), (0.1, 1.0), (1.0, 3.0))
    sensor = range_to([0, 1], 2, (0.0, 0.0), 0.5, 0.1, 200.0, noise=noise)
    value = 53.0
    below, inlier = 0.0, 0.0
    for weight, ranged, spread in ((0.3, 50.0, 0.3), (0.7, 55.0, 0.4)):
        for share, bias, ratio in ((0.8, 0.1, 1.0), (0.2, 1.0, 3.0)):
            # the mean of a range rises by the variance across it over twice the range
            law = stats.norm(ranged + spread**2 / (2 * ranged) + bias, math.hypot(spread, 0.5 * ratio))
            below += weight * share * law.cdf(value)
            inlier += weight * share * law.pdf(value)
    (row,) = fit(TWO, (sensor, [value]))
    assert row[Fit.SCORE] == pytest.approx(stats.norm.ppf(below), abs=1e-4)
    assert row[Fit.LOG_ODDS] == pytest.approx(math.log(0.9 * inlier / (0.1 / 200.0)), abs=1e-3)


def test_the_expected_log_evidence_is_that_of_draws() -> None:
    sensor = range_to([0, 1], 2, (0.0, 0.0), 0.5)
    random = np.random.default_rng(3)
    which = random.random(1000) < 0.7
    points = np.where(which[:, None], [33.0, 44.0], [30.0, 40.0])
    points = points + np.where(which, 0.4, 0.3)[:, None] * random.normal(size=(1000, 2))
    values = np.hypot(*points.T) + 0.5 * random.normal(size=1000)
    many = GaussianMixture(
        *(part.expand(1000, *part.shape[1:]) for part in (TWO.log_weights, TWO.means, TWO.covariances))
    )
    found = np.concatenate(fits([[Reading(sensor, np.array([value]))] for value in values], many))
    assert abs(found[:, Fit.EXCESS].mean()) < 3.5 * found[:, Fit.EXCESS].std() / math.sqrt(1000)
    assert stats.kstest(found[:, Fit.SCORE], "norm").pvalue > 1e-3


def test_scores_of_draws_through_a_curved_sensor_are_standard_normal() -> None:
    random = np.random.default_rng(5)
    count = 3000
    places = random.uniform(-20, 20, (count, 2)) + np.array([60.0, 0.0])
    states = places + 2.0 * random.normal(size=(count, 2))
    prior = GaussianMixture.gaussian(
        torch.from_numpy(places), torch.eye(2).double().expand(count, 2, 2) * 4.0
    )
    sensors = (range_to([0, 1], 2, (0.0, 0.0), 0.2), bearing([0, 1], 2, (0.0, 0.0), 0.02))
    for sensor, values in zip(
        sensors, (np.hypot(*states.T), np.arctan2(states[:, 1], states[:, 0])), strict=True
    ):
        noisy = values + math.sqrt(sensor.covariance[0, 0]) * random.normal(size=count)
        found = np.concatenate(fits([[Reading(sensor, np.array([value]))] for value in noisy], prior))
        judged = found[found[:, Fit.SHARE] > 0]
        assert len(judged) > 0.9 * count
        assert stats.kstest(judged[:, Fit.SCORE], "norm").pvalue > 1e-3


def test_a_wide_prediction_tells_little_and_a_curved_one_is_not_judged() -> None:
    sensor = range_to([0, 1], 2, (0.0, 0.0), 0.1)
    shares = [
        fit(mixture([1.0], np.array([[distance, 0.0]]), np.eye(2)[None] * 25.0), (sensor, [distance]))[0]
        for distance in (1000.0, 4.0)
    ]
    assert shares[0][Fit.SHARE] == pytest.approx(0.02, rel=1e-2)
    assert shares[1][Fit.SHARE] == 0.0


def test_a_direction_that_is_hardly_known_is_not_judged() -> None:
    compass = bearing([0, 1], 2, (0.0, 0.0), 1.0)
    assert fit(mixture([1.0], np.array([[100.0, 0.0]]), np.eye(2)[None]), (compass, [0.5]))[0][Fit.SHARE] == 0


def test_a_second_reading_of_one_sensor_at_one_time_is_not_judged() -> None:
    found = fit(PRIOR, (GPS, [3.0, 4.0]), (GPS, [3.0, 4.0]))
    assert (found[:, Fit.SHARE] > 0).tolist() == [True, True, False, False]


def test_the_score_has_the_sign_and_unit_of_the_reported_value() -> None:
    falling = range_to([0, 1], 2, (0.0, 0.0), 0.5, scale=-2.0, bias=7.0)
    (row,) = fit(PRIOR, (falling, [-2.0 * 5.0 + 7.0 + 1.0]))
    assert row[Fit.SCORE] > 0
    along = MEAN / 5.0
    assert row[Fit.DEVIATION] == pytest.approx(math.sqrt(4 * along @ COVARIANCE @ along + 0.25), rel=1e-3)
    assert row[Fit.PREDICTED] == pytest.approx(-3.0, abs=0.02)


def test_entities_without_readings_and_with_composites_stand_in_order() -> None:
    both = composite([range_to([0, 1], 2, (0.0, 0.0), 0.5), bearing([0, 1], 2, (0.0, 0.0), 0.1)])
    two = GaussianMixture(
        *(torch.cat([part] * 3) for part in (PRIOR.log_weights, PRIOR.means, PRIOR.covariances))
    )
    found = fits([[], [Reading(both, np.array([5.0, 0.9]))], [Reading(GPS, np.array([3.0, 4.0]))]], two)
    assert [len(rows) for rows in found] == [0, 2, 2]
    np.testing.assert_allclose(found[1][:1], fit(PRIOR, (both.parts[0], [5.0])))
