"""An adversarial problem, and functions that draw its parts: priors, states, reported values."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beliefstream.inference.sensors.readings import Reading, Sensor
from research.evaluation.adversarial.likelihood import LINEAR, Array, Seen
from research.evaluation.adversarial.mixtures import Mixture

Generator = np.random.Generator


@dataclass(frozen=True)
class Problem:
    """A prior over ``D`` coordinates, and readings of one time."""

    family: str
    prior: Mixture
    readings: tuple[Reading, ...]

    @property
    def dimension(self) -> int:
        return int(self.prior.means.shape[1])


def source(family: str, seed: int, number: int) -> Generator:
    """Return the random number generator of one problem, independent of all others."""
    return np.random.default_rng([seed, zlib.crc32(family.encode()), number])


Maker = Callable[[Generator], tuple[Mixture, Sequence[Reading]]]


def gaussian(mean: Any, deviation: Any) -> Mixture:
    """Return a mixture of one component without correlation; `deviation` is a number, or one per coordinate."""
    mean = np.asarray(mean, float)
    variance = np.broadcast_to(np.asarray(deviation, float) ** 2, mean.shape)
    return Mixture(np.ones(1), mean[None], np.diag(variance)[None])


def mixture(
    generator: Generator, size: int, components: int, scale: float = 1.0, apart: float = 1.0
) -> Mixture:
    """Draw a mixture over `size` coordinates; `apart` is the spread of the means in units of `scale`."""
    weights = generator.dirichlet(np.ones(components))
    means = apart * scale * generator.standard_normal((components, size))
    return Mixture(weights, means, shapes(generator, size, components, scale))


def shapes(generator: Generator, size: int, components: int, scale: float) -> Array:
    """Draw covariances with standard deviations of 1/3 to 3/2 of `scale` along random directions."""
    deviations = scale * np.exp(generator.uniform(math.log(0.3), math.log(1.5), (components, size)))
    turns = np.linalg.qr(generator.standard_normal((components, size, size)))[0]
    return symmetric(turns * deviations[:, None] ** 2 @ turns.transpose(0, 2, 1))


def symmetric(matrices: Array) -> Array:
    return (matrices + np.swapaxes(matrices, -1, -2)) / 2


def state(generator: Generator, prior: Mixture) -> Array:
    """Draw a state ``(D,)`` from the prior."""
    k = generator.choice(len(prior.weights), p=prior.weights)
    return generator.multivariate_normal(prior.means[k], prior.covariances[k], method="cholesky")


def direction(generator: Generator, size: int = 2) -> Array:
    """Draw a unit vector."""
    found = generator.standard_normal(size)
    return found / np.linalg.norm(found)


def logarithmic(generator: Generator, low: float, high: float) -> float:
    """Draw a log-uniform number between `low` and `high`."""
    return float(np.exp(generator.uniform(math.log(low), math.log(high))))


def report(generator: Generator, sensor: Sensor, at: Array) -> Reading:
    """Draw a reading of the state `at` ``(D,)`` from the model of the sensor."""
    axes = list(range(len(at)))
    covariance = np.asarray(sensor.covariance)
    h = Seen(sensor, np.zeros((1, 1)), covariance[None], axes).predictions(at[:, None])[:, 0]
    expected = sensor.scale * h + sensor.bias
    outlier = generator.random() < sensor.outlier_probability
    if sensor.kind == LINEAR:
        factor = np.linalg.cholesky(covariance) * (10.0 if outlier else 1.0)
        return Reading(sensor, expected + factor @ generator.standard_normal(len(h)))
    value = float(expected[0]) + _noise(generator, sensor, float(h[0]))
    if outlier:
        span = float(sensor.outlier_span or 1.0)
        middle = 0.0 if sensor.kind != 1 else span / 2
        value = sensor.scale * (middle + span * (generator.random() - 0.5)) + sensor.bias
    return Reading(sensor, np.array([value]))


def _noise(generator: Generator, sensor: Sensor, h: float) -> float:
    deviation, noise = math.sqrt(float(sensor.covariance[0, 0])), sensor.noise
    if noise is None:
        return deviation * float(generator.standard_normal())
    k = generator.choice(len(noise.weights), p=np.array(noise.weights) / sum(noise.weights))
    spread = noise.ratios[k] * (deviation + noise.slope * abs(sensor.scale * h))
    return noise.biases[k] + spread * float(generator.standard_normal())
