"""Reports of sensors, with values drawn from the sensors' own models, for the tests of the kinds of sensors."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.noise import Array, Noise
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Exponential, Reading, Sensor, encode


def at(state: Array) -> Tensor:
    """One state ``(D,)`` as a batch ``(1, 1, D)``."""
    return torch.as_tensor(state, dtype=torch.float64)[None, None]


def expected(sensor: Sensor, state: Array) -> float:
    """``h(state)`` of a scalar sensor, from what the observations make of a report of zero."""
    return -float(report(sensor, 0.0).difference(at(state)))


def report(sensor: Sensor, *value: float) -> Observations:
    """One report as a batch of one."""
    return encode([[Reading(sensor, np.array(value))]], sensor.dimension)


def log_density(sensor: Sensor, value: float, state: Array) -> float:
    return float(report(sensor, value).log_likelihood(at(state)))


def drawn(sensor: Sensor, state: Array, generator: np.random.Generator) -> float:
    """A value of a scalar sensor without calibration and without outliers but clutter."""
    noise, center = sensor.noise or Noise(), expected(sensor, state)
    left = generator.uniform()
    for probability, law in noise.clutter:
        if left < probability:
            if isinstance(law, Exponential):
                return float(generator.exponential(law.mean))
            return float(generator.uniform(law.low, law.high))
        left -= probability
    which = generator.choice(len(noise.weights), p=noise.weights)
    deviation = math.sqrt(sensor.covariance[0, 0]) + noise.slope * abs(center)
    return center + noise.biases[which] + noise.ratios[which] * deviation * generator.normal()


def random_prior(generator: np.random.Generator, batch: int, components: int = 2) -> GaussianMixture:
    """In the plane, means within about one of the origin, deviations of .3 to .7."""
    weights = generator.dirichlet(np.ones(components), batch)
    means = 0.7 * generator.normal(size=(batch, components, 2))
    root = generator.normal(size=(batch, components, 2, 2))
    covariances = 0.1 * root @ root.swapaxes(-1, -2) + 0.1 * np.eye(2)
    return GaussianMixture.from_weights(*map(torch.as_tensor, (weights, means, covariances)))


def problems(
    sensors: list[list[Sensor]], seed: int, components: int = 2
) -> tuple[GaussianMixture, Observations]:
    """A prior for each list of sensors, and what they report of a state drawn from it."""
    generator = np.random.default_rng(seed)
    prior = random_prior(generator, len(sensors), components)
    states = prior.sample(1, torch.Generator().manual_seed(seed))[:, 0].numpy()
    readings = [
        [Reading(sensor, np.array([drawn(sensor, state, generator)])) for sensor in row]
        for row, state in zip(sensors, states, strict=True)
    ]
    return prior, encode(readings, 2)
