"""Posteriors of kinds of sensors and of noise that the network was never trained on, against the grid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.measurement_functions import register
from beliefstream.inference.likelihood.noise import Array, Noise
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Exponential, Reading, Sensor, Uniform, encode
from beliefstream.inference.update.updater import Updater, UpdateSettings
from beliefstream.streams.scores.filters import ExtendedKalmanFilter, ParticleFilter
from research.evaluation.exact.grid import grid_posterior
from tests.inference.problems import updater
from tests.inference.reports import problems, report

BATCH, DOUBLE = 16, torch.float64
few = settings(max_examples=8, deadline=None)
BIASED = Noise((0.8, 0.2), (0.0, 1.0), (1.0, 4.0))
PUBLISHED = Noise(slope=0.1, clutter=((0.2, Exponential(1.0)), (0.1, Uniform(0.0, 20.0))))


@register("test: inverse cube")
def inverse_cube(state: Tensor, moment: Tensor) -> Tensor:
    """Field of a magnetic dipole at a distance, as a magnetometer that knows no direction sees it."""
    return moment * (state.square().sum() + 1e-6) ** -1.5


def around(generator: np.random.Generator, low: float = 2.0, high: float = 4.0) -> list[float]:
    angle, distance = generator.uniform(0, 2 * math.pi), generator.uniform(low, high)
    return [distance * math.cos(angle), distance * math.sin(angle)]


def magnetometer(generator: np.random.Generator) -> Sensor:
    place = around(generator, 3.0, 4.0)
    return sensors.function("test: inverse cube", [0, 1], 2, 0.02, {"moment": 2.0}, origin=place)


def signal(generator: np.random.Generator) -> Sensor:
    return sensors.signal_strength([0, 1], 2, around(generator), 2.0, -40.0, 2.5)


def difference(generator: np.random.Generator) -> Sensor:
    return sensors.time_difference([0, 1], 2, around(generator), around(generator), 0.2, 1.0)


def ranging(noise: Noise) -> Callable[[np.random.Generator], Sensor]:
    return lambda generator: sensors.range_to([0, 1], 2, around(generator), 0.1, noise=noise)


def chosen(
    make: Callable[[np.random.Generator], Sensor], seed: int, batch: int = BATCH
) -> list[list[Sensor]]:
    generator = np.random.default_rng(seed)
    return [[make(generator) for _ in range(generator.integers(1, 4))] for _ in range(batch)]


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (magnetometer, 0.15),
        (signal, 0.05),
        (difference, 0.08),
        (ranging(BIASED), 0.2),
        (ranging(Noise(slope=0.1)), 0.08),
        (ranging(PUBLISHED), 0.1),
    ],
    ids=["magnetometer", "signal strength", "time difference", "biased range", "growing noise", "published"],
)
def test_a_kind_never_trained_on_has_the_grids_posterior(
    make: Callable[[np.random.Generator], Sensor], most: float
) -> None:
    prior, observations = problems(chosen(make, 1), seed=2)
    found = updater().update(prior, observations)
    divergences, unmoved, errors = [], [], []
    for row in range(BATCH):
        one = slice(row, row + 1)
        exact = grid_posterior(prior.rows(one), observations.rows_of(one), most_cells=400_000)
        assert exact.resolved
        divergences.append(exact.divergence(found.posterior.rows(one)))
        unmoved.append(exact.divergence(prior.rows(one)))
        errors.append(abs(exact.log_evidence - float(found.log_evidence[row])))
    assert sum(divergences) / BATCH < most < 0.3 * sum(unmoved) / BATCH
    assert sum(errors) / BATCH < 0.1


@pytest.mark.hypothesis  # of a function inside it, which `make search` would not see
def test_without_duplicates_the_answer_moves_with_shift_rotation_and_units() -> None:
    """Eight components fill all tokens, so that no offset that a rotation does not turn is there."""
    prior, _ = problems(chosen(signal, 3), seed=4, components=8)
    one_pass = UpdateSettings(refine_below=0, merge_below=0, search=False, quadrature_below=0)
    plain = Updater(weights.load(), settings=one_pass, dtype=DOUBLE)
    here = plain.update(prior, seen_from(np.eye(2), np.zeros(2)))
    mean, covariance = here.posterior.moments()

    @few
    @given(st.floats(0, 6.28), st.floats(0.1, 100), st.floats(-50, 50), st.floats(-50, 50))
    def check(angle: float, scale: float, x: float, y: float) -> None:
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        turn, shift = np.array([[cosine, -sine], [sine, cosine]]), scale * np.array([x, y])
        rotation = torch.as_tensor(turn)
        moved = GaussianMixture(
            prior.log_weights,
            prior.means @ rotation.T + torch.as_tensor(shift),
            rotation @ prior.covariances @ rotation.T,
        )
        there = plain.update(moved, seen_from(turn, shift))
        moved_mean, moved_covariance = there.posterior.moments()
        expected = mean @ rotation.T + torch.as_tensor(shift)
        torch.testing.assert_close(moved_mean, expected, rtol=1e-4, atol=1e-3 * scale)
        turned = rotation @ covariance @ rotation.T
        torch.testing.assert_close(moved_covariance, turned, rtol=1e-2, atol=1e-3 * scale**2)

    check()


def seen_from(turn: Array, shift: Array) -> Observations:
    """The same reports by sensors that are turned, scaled and shifted with the state."""
    scale = math.sqrt(abs(np.linalg.det(turn)))

    def place(*numbers: float) -> Array:
        moved: Array = turn @ np.array(numbers) + shift
        return moved

    noise = Noise((0.8, 0.2), (0.0, scale), (1.0, 4.0), 0.05, ((0.1, Uniform(0.0, 20.0 * scale)),))
    magnet = {"moment": 2.0 * scale**3}
    readings = [
        (sensors.range_to([0, 1], 2, place(2.0, 3.0), 0.1 * scale, noise=noise), 3.2 * scale),
        (sensors.signal_strength([0, 1], 2, place(-2.0, 1.0), 2.0, -40.0, 2.5, scale), -48.0),
        (sensors.time_difference([0, 1], 2, place(3.0, 0.0), place(-2.0, -2.0), 0.2, scale), 0.5),
        (sensors.function("test: inverse cube", [0, 1], 2, 0.02, magnet, origin=place(0.0, -3.5)), 0.06),
    ]
    row = [Reading(sensor, np.array([value])) for sensor, value in readings]
    return encode([row] * BATCH, 2)


def test_a_composite_report_gives_the_posterior_of_its_parts() -> None:
    parts = [sensors.range_to([0, 1], 2, [3.0, 1.0], 0.2), sensors.bearing([0, 1], 2, [3.0, 1.0], 0.1)]
    prior, _ = problems([parts], seed=6)
    value = np.array([3.0, -2.8])
    joint = encode([[Reading(sensors.composite(parts), value)]], 2)
    apart = encode([[Reading(part, value[i : i + 1]) for i, part in enumerate(parts)]], 2)
    found, expected = updater().update(prior, joint), updater().update(prior, apart)
    torch.testing.assert_close(found.posterior.means, expected.posterior.means, rtol=0, atol=0)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=0, atol=0)


def test_a_heading_in_the_state_is_learnt_from_itself_and_from_landmarks() -> None:
    """Against importance sampling by the models written out once more."""
    mean, deviation = np.array([0.5, -0.3, 6.0]), np.array([0.8, 0.6, 0.7])
    landmarks, bearings, compass = [(4.0, 1.0), (-1.0, 5.0)], [0.6, 2.2], 2.9 - math.pi
    readings = [
        Reading(sensors.relative_bearing([0, 1], 2, 3, place, 0.1), np.array([value]))
        for place, value in zip(landmarks, bearings, strict=True)
    ]
    readings.append(Reading(sensors.heading(2, 3, 0.3), np.array([compass])))
    prior = GaussianMixture.gaussian(
        torch.as_tensor(mean)[None], torch.diag(torch.as_tensor(deviation**2))[None]
    )
    found = updater().update(prior, encode([readings], 3))
    states = mean + deviation * np.random.default_rng(0).normal(size=(400_000, 3))
    log_weights = np.zeros(len(states))
    for (x, y), value in zip(landmarks, bearings, strict=True):
        seen = np.arctan2(y - states[:, 1], x - states[:, 0]) - states[:, 2]
        log_weights += log_normal(value - seen, 0.1)
    log_weights += log_normal(compass - states[:, 2], 0.3)
    weights = np.exp(log_weights - log_weights.max())
    share = weights / weights.sum()
    expected = share @ states
    spread = (states - expected).T @ (share[:, None] * (states - expected))
    posterior_mean, covariance = (part[0].numpy() for part in found.posterior.moments())
    root = np.sqrt(np.diag(spread))
    assert np.abs((posterior_mean - expected) / root).max() < 0.1
    np.testing.assert_allclose(covariance / np.outer(root, root), spread / np.outer(root, root), atol=0.15)
    evidence = math.log(weights.mean()) + log_weights.max()
    assert float(found.log_evidence) == pytest.approx(evidence, abs=0.1)


def log_normal(residual: Array, deviation: float) -> Array:
    wrapped = np.remainder(residual + math.pi, 2 * math.pi) - math.pi
    found: Array = -0.5 * (wrapped / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))
    return found


def test_where_a_field_grows_without_bounds_every_answer_is_finite() -> None:
    """Magnetometers in the middle of the prior, whose likelihood spans dozens of orders of magnitude."""
    generator = np.random.default_rng(5)
    inside = [
        [
            sensors.function(
                "test: inverse cube", [0, 1], 2, 0.02, {"moment": 2.0}, origin=around(generator, 0, 2)
            )
            for _ in range(3)
        ]
        for _ in range(64)
    ]
    found = updater().update(*problems(inside, seed=8))
    assert bool(found.log_evidence.isfinite().all() & found.posterior.means.isfinite().all())
    assert bool((torch.linalg.eigvalsh(found.posterior.covariances) > 0).all())


def test_the_baselines_measure_the_same_sensors() -> None:
    """A sharp prior makes everything Gaussian: the filters then agree with the grid."""
    center = torch.tensor([[0.4, -0.2]], dtype=DOUBLE)
    prior = GaussianMixture.gaussian(center, 0.05**2 * torch.eye(2, dtype=DOUBLE)[None])
    for sensor, value in (
        (sensors.signal_strength([0, 1], 2, [2.0, 1.0], 0.2, -40.0, 2.5), -47.3),
        (sensors.range_to([0, 1], 2, [2.0, 1.0], 0.02, noise=Noise((1.0,), (0.3,), (2.0,), 0.01)), 2.35),
    ):
        observations = report(sensor, value)
        exact_mean, exact_covariance = grid_posterior(prior, observations).moments()
        kalman = ExtendedKalmanFilter(center, prior.covariances[:, 0])
        assert bool(kalman.update(observations).all())
        particles = ParticleFilter(prior, 200_000, torch.Generator().manual_seed(0))
        particles.update(observations)
        moved = float((exact_mean - center[0]).norm())
        assert moved > 0.005
        for mean, covariance in ((kalman.mean, kalman.covariance), particles.density().moments()):
            assert float((mean[0] - exact_mean).norm()) < 0.05 * moved
            torch.testing.assert_close(covariance[0], exact_covariance, rtol=0.05, atol=1e-5)


def test_the_kalman_filter_takes_the_moments_of_a_mixture() -> None:
    sensor = sensors.position([0], 1, [[0.04]], noise=BIASED)
    kalman = ExtendedKalmanFilter(torch.zeros(1, 1), torch.ones(1, 1, 1))
    kalman.update(report(sensor, 0.9))
    variance = 0.8 * (0.04 + 0.2**2) + 0.2 * (0.64 + 0.8**2)
    assert float(kalman.mean) == pytest.approx((0.9 - 0.2) / (1 + variance))
    assert float(kalman.covariance) == pytest.approx(variance / (1 + variance))
