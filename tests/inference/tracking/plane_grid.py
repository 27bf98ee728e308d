"""Exact posterior of an entity at rest in the plane, by a grid in logarithms; shares no code with the filter."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from beliefstream.inference.sensors import range_to
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.tracking.events import Array, Belief
from tests.inference.plain_models import log_density

NOISE, OUTLIERS, SPAN = 0.1, 0.05, 20.0  # m; probability; longest distance, m
CELL, HALF = 0.03, 4.0  # m
AXIS = np.arange(-HALF + CELL / 2, HALF, CELL)
POINTS: Array = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2)


def range_sensor(x: float, y: float, outliers: float = OUTLIERS) -> Sensor:
    return range_to([0, 1], 2, [x, y], NOISE, outliers, SPAN)


def ranged(sensor: Sensor, place: Array, noise: float) -> Reading:
    """The distance of a place, off by so many standard deviations."""
    return Reading(sensor, np.array([math.dist(place, sensor.origin) + NOISE * noise]))


def log_likelihood(readings: Iterable[Reading], points: Array = POINTS) -> Array:
    """Sum over distances with uniform outliers, ``(P,)``."""
    total = np.zeros(len(points))
    for reading in readings:
        share = reading.sensor.outlier_probability
        off = (float(reading.value[0]) - np.hypot(*(points - reading.sensor.origin).T)) / NOISE
        inlier = math.log1p(-share) - 0.5 * off**2 - math.log(NOISE * math.sqrt(2 * math.pi))
        total += np.logaddexp(inlier, math.log(share / SPAN) if share else -math.inf)
    return total


def divergence(log_posterior: Array, belief: Belief, points: Array = POINTS, cell: float = CELL) -> float:
    """KL(exact ‖ belief) in nats, of an unnormalised log posterior at the centres of cells."""
    log_shares = log_posterior - np.logaddexp.reduce(log_posterior)
    kept = log_shares > math.log(1e-12)
    there = log_density(belief, points[kept]) + 2 * math.log(cell)
    return float((np.exp(log_shares[kept]) * (log_shares[kept] - there)).sum())


def divided(log_posterior: Array, parts: int) -> tuple[Array, float]:
    """Cells of the grid that matter in `parts` along each side: their centres and their width."""
    near = POINTS[log_posterior > log_posterior.max() - 40]
    offsets = CELL * ((np.arange(parts) + 0.5) / parts - 0.5)
    inside = np.stack(np.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
    return (near[:, None] + inside).reshape(-1, 2), CELL / parts
