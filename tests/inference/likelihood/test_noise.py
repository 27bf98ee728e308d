"""Noise that is not one Gaussian: densities, their slopes, and the bounds that the grid relies on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.sensors import Exponential, Noise, Sensor, Uniform
from tests.inference.reports import at, log_density, report

PUBLISHED = Noise(slope=0.1, clutter=((0.2, Exponential(1.0)), (0.1, Uniform(0.0, 20.0))))
BIASED = Noise((0.7, 0.3), (0.0, 1.5), (1.0, 4.0))
FLIPPED = Noise((0.8, 0.2), (0.0, math.pi), (1.0, 2.0))


def normal(residual: float, deviation: float) -> float:
    return math.exp(-0.5 * (residual / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def range_with(noise: Noise, **options: float) -> Sensor:
    return sensors.range_to([0, 1], 2, [0.0, 0.0], 0.1, noise=noise, **options)


def test_the_published_range_sensor_can_be_said() -> None:
    """Whittle et al., arXiv 2502.02463, section 4.3.1: .7 N(r, (.1 (r + 1))²) + .2 Exp(1) + .1 U(0, 20)."""
    sensor, state = range_with(PUBLISHED), np.array([3.0, 4.0])
    for value in (0.3, 4.2, 5.5, 19.0, 21.0):
        inside = 0.1 / 20 if value <= 20 else 0.0
        density = 0.7 * normal(value - 5, 0.1 * (5 + 1)) + 0.2 * math.exp(-value) + inside
        assert math.exp(log_density(sensor, value, state)) == pytest.approx(density, rel=1e-6)


CASES = [
    (range_with(PUBLISHED), -5.0, 35.0),
    (range_with(BIASED), -10.0, 20.0),
    (range_with(Noise((0.5, 0.5), (0.0, -1.0), (1.0, 2.0), 0.2), scale=-1.3, bias=2.0), -60.0, 60.0),
    (range_with(PUBLISHED, outlier_probability=0.3, maximum_range=30.0), 0.0, 30.0),
    (sensors.bearing([0, 1], 2, [0.0, 0.0], 0.1, noise=FLIPPED), -math.pi, math.pi),
    (sensors.bearing([0, 1], 2, [0.0, 0.0], 0.1, noise=Noise(slope=0.05)), -math.pi, math.pi),
    (sensors.linear([[1.0, 2.0]], [[0.25]], noise=BIASED, scale=2.0), -40.0, 80.0),
]


@pytest.mark.parametrize(("sensor", "low", "high"), CASES)
def test_densities_integrate_to_one_over_the_value(sensor: Sensor, low: float, high: float) -> None:
    count = 20_000
    values = low + (high - low) * (np.arange(count) + 0.5) / count
    readings = [[sensors.Reading(sensor, values[i : i + 1])] for i in range(count)]
    states = at(np.array([3.0, 4.0])).expand(count, 1, 2)
    total = sensors.encode(readings, 2).log_likelihood(states).exp().sum() * (high - low) / count
    assert float(total) == pytest.approx(1.0, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(-2, 6), st.floats(0.5, 6), st.floats(0.5, 6))
def test_the_effective_gaussian_has_the_slope_of_the_density(value: float, x: float, y: float) -> None:
    for sensor in (range_with(BIASED), sensors.bearing([0, 1], 2, [0.0, 0.0], 0.3, noise=FLIPPED)):
        observations = report(sensor, value)
        point, step = at(np.array([x, y])), 1e-5 * torch.eye(2, dtype=torch.float64)

        def inlier(points: torch.Tensor, observations: Observations = observations) -> torch.Tensor:
            residuals = observations.residuals(points)
            found = residuals.log_likelihood + torch.nn.functional.logsigmoid(residuals.log_odds)
            return found[..., 0]

        expected = (inlier(point + step) - inlier(point - step))[0] / 2e-5
        found = observations.linearise(point, torch.eye(2, dtype=torch.float64)[None, None]).gradient[0, 0, 0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_one_component_is_the_gaussian_it_says() -> None:
    shifted = range_with(Noise((1.0,), (0.5,), (3.0,)))
    plain = sensors.range_to([0, 1], 2, [0.0, 0.0], 0.3)
    state, eye = at(np.array([3.0, 4.0])), torch.eye(2, dtype=torch.float64)[None, None]
    there, here = report(shifted, 5.7).linearise(state, eye), report(plain, 5.2).linearise(state, eye)
    for found, expected in zip(there[:3], here[:3], strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(there.residuals.log_likelihood, here.residuals.log_likelihood)


def test_moments_are_those_of_the_components() -> None:
    mixture = report(range_with(BIASED), 5.0).mixture
    assert mixture is not None
    mean, deviation = mixture.moments(torch.tensor([[0.1]], dtype=torch.float64))
    assert float(mean) == pytest.approx(0.45)
    variance = 0.7 * (0.01 + 0.45**2) + 0.3 * (0.16 + 1.05**2)
    assert float(deviation) == pytest.approx(math.sqrt(variance))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise((0.5, 0.6), (0.0, 0.0), (1.0, 1.0)), "weights: .*sum to 1"),
        (lambda: Noise((0.5, 0.5), (0.0,), (1.0, 1.0)), "noise: .*equally many"),
        (lambda: Noise(ratios=(0.0,)), "ratios"),
        (lambda: Noise(biases=(math.nan,)), "biases"),
        (lambda: Noise(slope=-0.1), "slope: must not be negative, got -0.1"),
        (lambda: Noise(clutter=((0.6, Uniform(0, 1)), (0.5, Uniform(0, 1)))), "clutter"),
        (lambda: Uniform(2.0, 1.0), "uniform: low must be below high, got 2.0 and 1.0"),
        (lambda: Exponential(0.0), "exponential: mean"),
        (lambda: range_with(PUBLISHED, outlier_probability=0.8), "outlier_probability: .* with clutter"),
    ],
)
def test_noise_that_cannot_be_is_refused_with_the_field(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
