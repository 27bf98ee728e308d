"""Families of problems of a position in the plane."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from beliefstream.inference.sensors import bearing, position, range_to, time_difference
from beliefstream.inference.sensors.readings import Reading, Sensor
from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import (
    Generator,
    Maker,
    direction,
    gaussian,
    logarithmic,
    mixture,
    report,
    state,
)

Made = tuple[Mixture, list[Reading]]
PLANE = (0, 1)


def place(generator: Generator, low: float = 0.3, high: float = 20.0) -> Array:
    """Draw the position of a sensor, `low` to `high` prior deviations away."""
    return logarithmic(generator, low, high) * direction(generator)


def sensor_at(generator: Generator, where: Array, noise: float, outlier: float = 0.0) -> Sensor:
    """Make a range or a bearing sensor; the noise of a bearing is `noise` at the distance of the origin."""
    if generator.random() < 0.5:
        return range_to(PLANE, 2, where, noise, outlier, 60.0)
    angle = min(noise / max(float(np.linalg.norm(where)), 1.0), 0.5)
    return bearing(PLANE, 2, where, angle, outlier)


def reported(generator: Generator, prior: Mixture, sensors: list[Sensor], at: Array | None = None) -> Made:
    """Draw reports of `sensors` about the state `at`, or about a state drawn from the prior."""
    there = state(generator, prior) if at is None else at
    return prior, [report(generator, sensor, there) for sensor in sensors]


def planar(generator: Generator) -> Made:
    """As in training: one to eight components; one to six positions, ranges or bearings; half with outliers."""
    prior = mixture(generator, 2, int(generator.integers(1, 9)), 0.7)
    sensors = []
    for _ in range(int(generator.integers(1, 7))):
        noise = logarithmic(generator, 0.03, 1.0)
        outlier = generator.uniform(0, 0.3) if generator.random() < 0.5 else 0.0
        if generator.random() < 1 / 3:
            sensors.append(position(PLANE, 2, noise**2 * np.eye(2), outlier))
        elif generator.random() < 0.5:
            sensors.append(range_to(PLANE, 2, place(generator), noise, outlier, 60.0))
        else:
            angle = logarithmic(generator, 0.01, 0.5)
            sensors.append(bearing(PLANE, 2, place(generator), angle, outlier))
    return reported(generator, prior, sensors)


def time_differences(generator: Generator) -> Made:
    """Two or three pairs of receivers that share one receiver."""
    prior = mixture(generator, 2, int(generator.integers(1, 5)), 1.0)
    first = place(generator, 0.5, 6.0)
    outlier = 0.05 if generator.random() < 0.3 else 0.0
    sensors = [
        time_difference(
            PLANE, 2, first, place(generator, 0.5, 6.0), logarithmic(generator, 0.01, 0.3), 1.0, outlier
        )
        for _ in range(int(generator.integers(1, 4)))
    ]
    return reported(generator, prior, sensors)


def collinear_bearings(generator: Generator) -> Made:
    """Two or three bearings from a line through the prior."""
    along = direction(generator)
    prior = gaussian(np.zeros(2), generator.uniform(0.5, 1.5, 2))
    noise = logarithmic(generator, 1e-3, 0.1)
    distances = generator.uniform(1.5, 12.0, int(generator.integers(2, 4)))
    signs = generator.choice([-1.0, 1.0], len(distances))
    outlier = 0.05 if generator.random() < 0.3 else 0.0
    sensors = [
        bearing(PLANE, 2, s * d * along, noise, outlier) for s, d in zip(signs, distances, strict=True)
    ]
    return reported(generator, prior, sensors)


def noise_of(share: float) -> Maker:
    """Noise of that share of the prior; below a thousandth with two sensors, because one range leaves a ring."""

    def make(generator: Generator) -> Made:
        prior = mixture(generator, 2, int(generator.integers(1, 5)), 1.0)
        count = int(generator.integers(1 if share > 1e-3 else 2, 5))
        outlier = 0.05 if generator.random() < 0.3 else 0.0
        sensors = [sensor_at(generator, place(generator, 0.5, 8.0), share, outlier) for _ in range(count)]
        return reported(generator, prior, sensors)

    return make


def moved(make: Maker, scale: float, offset: float) -> Maker:
    """A family of the plane in other units, and far from the origin of the coordinates."""

    def make_there(generator: Generator) -> Made:
        prior, readings = make(generator)
        shift = offset * direction(generator)
        means, covariances = scale * prior.means + shift, scale**2 * prior.covariances
        return Mixture(prior.weights, means, covariances), [_moved(r, scale, shift) for r in readings]

    return make_there


def _moved(reading: Reading, scale: float, shift: Array) -> Reading:
    from beliefstream.inference.likelihood.observations import LINEAR, RANGE

    old, value = reading.sensor, reading.value
    if old.kind == LINEAR:
        made = position(PLANE, 2, old.covariance * scale**2, old.outlier_probability)
        return Reading(made, value * scale + shift)
    where, deviation = old.origin * scale + shift, math.sqrt(float(old.covariance[0, 0]))
    if old.kind == RANGE:
        made = range_to(PLANE, 2, where, deviation * scale, old.outlier_probability, 60.0 * scale)
        return Reading(made, value * scale)
    return Reading(bearing(PLANE, 2, where, deviation, old.outlier_probability), value)


def contradictions(outlier: float) -> Callable[[Generator], Made]:
    """Precise sensors that contradict each other, because each reports another state."""

    def make(generator: Generator) -> Made:
        prior = mixture(generator, 2, int(generator.integers(1, 4)), 1.0)
        readings = []
        for _ in range(int(generator.integers(2, 6))):
            noise = logarithmic(generator, 1e-3, 1e-1)
            if generator.random() < 0.4:
                sensor = position(PLANE, 2, noise**2 * np.eye(2), outlier)
            else:
                sensor = sensor_at(generator, place(generator, 0.5, 8.0), noise, outlier)
            readings.append(report(generator, sensor, state(generator, prior)))
        return prior, readings

    return make


def prior_off(generator: Generator) -> Made:
    """One to four sensors, for a state eight to twenty standard deviations from the prior."""
    prior = gaussian(np.zeros(2), 1.0)
    at = generator.uniform(8, 20) * direction(generator)
    outlier = 0.0 if generator.random() < 0.6 else 0.05
    sensors = [
        sensor_at(generator, place(generator, 2.0, 15.0), logarithmic(generator, 0.05, 1.0), outlier)
        for _ in range(int(generator.integers(1, 5)))
    ]
    return reported(generator, prior, sensors, at)


def mirror_images(generator: Generator) -> Made:
    """Ranges from a line, so that a position and its mirror image fit equally; the prior may favour one slightly."""
    along = direction(generator)
    across = np.array([-along[1], along[0]])
    prior = gaussian(
        across * generator.choice([0.0, generator.uniform(-1, 1)]), generator.uniform(0.7, 1.3, 2)
    )
    noise = logarithmic(generator, 1e-3, 0.1)
    outlier = 0.05 if generator.random() < 0.3 else 0.0
    sensors = [
        range_to(PLANE, 2, distance * along, noise, outlier, 60.0)
        for distance in generator.uniform(-6, 6, int(generator.integers(2, 5)))
    ]
    return reported(generator, prior, sensors)


def near_anchors(generator: Generator) -> Made:
    """A prior of 100 km, three anchors within 100 m of the entity, and noise of 0.1 m."""
    prior = gaussian(np.zeros(2), 1e5)
    at = state(generator, prior)
    return reported(
        generator, prior, [range_to(PLANE, 2, at + 100 * direction(generator), 0.1) for _ in range(3)], at
    )
