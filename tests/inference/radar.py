"""A radar under a wide prior: distance, radial speed and bearing, and their exact posterior on a grid of places."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, bearing, encode, range_rate, range_to

Array = NDArray[np.float64]

PLACE, SPEED = 100.0, 10.0  # deviations of the prior, m and m/s
RANGE, RATE, BEARING = 1.0, 0.1, 0.02  # of the noise
FARTHEST, FASTEST = 600.0, 60.0  # m and m/s, of outliers
RADAR = np.array([-80.0, 50.0])


def reported(distance: float, rate: float, direction: float, outlier: float) -> Observations:
    sensors = (
        range_to((0, 1), 4, RADAR, RANGE, outlier, FARTHEST),
        range_rate((0, 1), (2, 3), 4, RADAR, RATE, outlier, FASTEST),
        bearing((0, 1), 4, RADAR, BEARING, outlier),
    )
    values = zip(sensors, (distance, rate, direction), strict=True)
    return encode([[Reading(sensor, np.array([value])) for sensor, value in values]], 4)


def wide() -> GaussianMixture:
    deviations = torch.tensor([PLACE, PLACE, SPEED, SPEED], dtype=torch.float64)
    return GaussianMixture.gaussian(
        torch.zeros(1, 4, dtype=torch.float64), torch.diag(deviations.square())[None]
    )


def normal(offset: Array, deviation: float) -> Array:
    return np.exp(-0.5 * (offset / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def exact(values: tuple[float, float, float], count: int, outlier: float) -> tuple[float, Array, Array]:
    """Log evidence, `count` points of the posterior and their log densities: places on a polar grid, then velocities.

    Velocities are independent of the place before, so a radial speed is normal with the prior's deviation and noise.
    """
    distance, rate, direction = values
    radii = np.unique(np.r_[np.linspace(0.5, 700, 701), np.linspace(distance - 8, distance + 8, 161)])
    turns = np.unique(np.r_[np.linspace(-math.pi, math.pi, 801), direction + np.linspace(-0.2, 0.2, 161)])
    turns = turns[:-1]
    r, turn = np.meshgrid(radii, turns, indexing="ij")
    area = r * np.gradient(radii)[:, None] * np.gradient(turns)
    unit = np.stack([np.cos(turn), np.sin(turn)], -1)
    places = RADAR + r[..., None] * unit
    off = (turn - direction + math.pi) % (2 * math.pi) - math.pi
    inlier = 1 - outlier
    density = normal(places[..., 0], PLACE) * normal(places[..., 1], PLACE)
    density *= inlier * normal(r - distance, RANGE) + outlier / FARTHEST
    density *= inlier * normal(off, BEARING) + outlier / (2 * math.pi)
    total = float((density * area).sum())
    seen, lost = inlier * float(normal(np.array(rate), math.hypot(SPEED, RATE))), outlier / (2 * FASTEST)
    generator = np.random.default_rng(5)
    cells = generator.choice(r.size, count, p=(density * area).ravel() / total)
    at, along = places.reshape(-1, 2)[cells], unit.reshape(-1, 2)[cells]
    gain = SPEED**2 / (SPEED**2 + RATE**2)
    velocity = SPEED * generator.standard_normal((count, 2))
    error = rate - (velocity * along).sum(1) - RATE * generator.standard_normal(count)
    counts = generator.random(count) < seen / (seen + lost)
    velocity += np.where(counts, gain * error, 0.0)[:, None] * along
    log = np.log(density.ravel()[cells] / total) + np.log(normal(velocity, SPEED)).sum(1)
    likelihood = inlier * normal(rate - (velocity * along).sum(1), RATE) + outlier / (2 * FASTEST)
    log += np.log(likelihood / (seen + lost))
    return math.log(total * (seen + lost)), np.concatenate([at, velocity], 1), log
