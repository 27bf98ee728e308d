"""Evidence alone against sums over dense grids, and closed forms for linear sensors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.noise import Noise
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, Sensor, encode
from beliefstream.inference.update.evidence import Evidence, evidence
from tests.inference.likelihood.operators import by_operators

PLACE = [4.0, 1.0]
RING = sensors.range_to([0, 1], 2, PLACE, 0.05)
BEARING = sensors.bearing([0, 1], 2, PLACE, 0.02)


def prior(spread: float = 1.0, batch: int = 1) -> GaussianMixture:
    """Two components in the plane, one of them narrow and tilted."""
    covariances = np.array([[[1.0, 0.3], [0.3, 0.6]], [[0.2, -0.1], [-0.1, 0.3]]]) * spread**2
    parts = np.log([0.7, 0.3]), np.array([[0.0, 0.0], [2.0, 1.5]]), covariances
    return GaussianMixture(*(torch.from_numpy(np.repeat(part[None], batch, 0)) for part in parts))


def reported(*readings: tuple[Sensor, float]) -> Observations:
    return encode([[Reading(sensor, np.array([value])) for sensor, value in readings]], 2)


def on_grid(
    mixture: GaussianMixture, observations: Observations, reach: float = 7.0, count: int = 1401
) -> float:
    """Log of the sum of prior × likelihood over a square; the likelihood by PyTorch's operators, on coarse rows."""
    axis = np.linspace(-reach, reach, count)
    logs = []
    for rows in np.array_split(axis, 10):
        points = np.stack(np.meshgrid(rows, axis, indexing="ij"), -1).reshape(-1, 2)
        log_prior = [
            math.log(weight) + multivariate_normal(mean, covariance).logpdf(points)
            for weight, mean, covariance in zip(
                mixture.log_weights[0].exp().tolist(),
                mixture.means[0].numpy(),
                mixture.covariances[0].numpy(),
                strict=True,
            )
        ]
        at = torch.from_numpy(points)[None]
        frames = torch.eye(2, dtype=torch.float64).expand(1, len(points), 2, 2)
        likelihood = by_operators(observations, at, frames).residuals.log_likelihood[0].sum(-1).numpy()
        logs.append(logsumexp(logsumexp(log_prior, 0) + likelihood))
    return float(logsumexp(logs) + 2 * math.log(axis[1] - axis[0]))


def check(found: Evidence, expected: float, most: float = 0.1) -> None:
    """Within the error that it states, which is small."""
    off, error = abs(float(found.log_evidence[0]) - expected), float(found.error[0])
    assert off < max(0.01, error), (off, error)
    assert error < most, (off, error)


@pytest.mark.parametrize("value", [0.1, 1.5, 4.0, 8.0])
@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_of_a_range(value: float, outliers: float) -> None:
    sensor = sensors.range_to([0, 1], 2, PLACE, 0.05, outliers, 60.0)
    check(evidence(prior(), reported((sensor, value))), on_grid(prior(), reported((sensor, value))))


@pytest.mark.parametrize("value", [-3.0, -2.0, 0.5, 2.9])
def test_of_a_bearing(value: float) -> None:
    check(evidence(prior(), reported((BEARING, value))), on_grid(prior(), reported((BEARING, value))))


NOISE = Noise((0.7, 0.3), (0.0, 0.4), (1.0, 3.0))
CASES = [
    ((RING, 4.0), (BEARING, 2.9)),
    ((RING, 4.0), (sensors.range_to([0, 1], 2, [-3.0, 2.0], 0.05, 0.2, 50.0), 3.0)),
    ((sensors.range_to([0, 1], 2, PLACE, 0.1, noise=NOISE), 3.7),),
    ((sensors.range_to([0, 1], 2, PLACE, 0.1, noise=Noise(slope=0.1)), 3.7),),
    ((sensors.signal_strength([0, 1], 2, PLACE, 1.0, -40.0, 2.0, outlier_probability=0.1), -52.0),),
    ((sensors.time_difference([0, 1], 2, PLACE, [-3.0, -2.0], 0.05, 1.0), 1.5),),
    ((RING, 4.0), (sensors.linear([[1.0, 1.0]], [[0.04]], outlier_probability=0.1), 0.3)),
]


@pytest.mark.parametrize("readings", CASES, ids=range(len(CASES)))
def test_of_every_kind_and_of_several(readings: tuple[tuple[Sensor, float], ...]) -> None:
    observations = reported(*readings)
    check(evidence(prior(), observations), on_grid(prior(), observations))


def test_of_a_report_far_from_the_prior() -> None:
    """Twenty standard deviations away, and without outliers to explain it."""
    narrow = prior(0.1)
    observations = reported((sensors.range_to([0, 1], 2, [40.0, 0.0], 0.05), 42.0))
    found = evidence(narrow, observations)
    check(found, on_grid(narrow, observations, 6.0))


def test_of_a_thin_ring_around_the_prior_is_the_density_of_its_radius() -> None:
    """Of a standard normal law, the squared radius is exponential: p(r) = r exp(−r² / 2)."""
    standard = GaussianMixture.gaussian(torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    for value in (0.3, 1.0, 2.5):
        found = evidence(standard, reported((sensors.range_to([0, 1], 2, [0.0, 0.0], 1e-4), value)))
        check(found, math.log(value) - 0.5 * value**2)


@pytest.mark.parametrize("outliers", [0.0, 0.2])
def test_of_linear_sensors_is_exact(outliers: float) -> None:
    matrix, covariance = np.array([[1.0, 0.5]]), 0.09
    sensor = sensors.linear(matrix, [[covariance]], outlier_probability=outliers)
    found, expected = evidence(prior(), reported((sensor, 9.0))), 0.0
    for weight, mean, square in zip(
        [0.7, 0.3], prior().means[0].numpy(), prior().covariances[0].numpy(), strict=True
    ):
        variance, middle = float((matrix @ square @ matrix.T)[0, 0]), float((matrix @ mean)[0])
        usual = norm.pdf(9.0, middle, math.sqrt(variance + covariance))
        wide = norm.pdf(9.0, middle, math.sqrt(variance + 100 * covariance))
        expected += weight * ((1 - outliers) * usual + outliers * wide)
    assert float(found.log_evidence[0]) == pytest.approx(math.log(expected), abs=1e-9)
    assert float(found.error[0]) == 0.0


def test_a_pair_alone_is_as_in_a_batch_and_coordinates_not_seen_do_not_matter() -> None:
    values = [1.5, 4.0, 8.0]
    many = encode([[Reading(RING, np.array([value]))] for value in values], 2)
    together = evidence(prior(batch=3), many).log_evidence
    for row, value in enumerate(values):
        assert float(evidence(prior(), reported((RING, value))).log_evidence[0]) == float(together[row])
    wide = prior()
    means = torch.cat([wide.means, torch.tensor([[[1.0], [-2.0]]], dtype=torch.float64)], -1)
    covariances = torch.eye(3, dtype=torch.float64).repeat(1, 2, 1, 1)
    covariances[..., :2, :2] = wide.covariances
    covariances[..., 0, 2] = covariances[..., 2, 0] = 0.2
    there = encode([[Reading(sensors.range_to([0, 1], 3, PLACE, 0.05), np.array([4.0]))]], 3)
    found = evidence(GaussianMixture(wide.log_weights, means, covariances), there)
    assert float(found.log_evidence[0]) == pytest.approx(float(together[1]), abs=1e-12)


def test_a_function_of_the_user_is_refused() -> None:
    own = sensors.function(lambda state: state[0] * state[1], [0, 1], 2, 0.5)
    with pytest.raises(ValueError, match="built-in sensors"):
        evidence(prior(), reported((own, 0.3)))
