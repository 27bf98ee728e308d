"""Families of a position in space, and of larger states, whose derivatives most sensors do not observe directly."""

from __future__ import annotations

import math

import numpy as np

from beliefstream.inference.sensors import azimuth, bearing, elevation, range_rate, range_to
from research.evaluation.adversarial.makers.planar import Made, place, reported
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import (
    Generator,
    Maker,
    direction,
    gaussian,
    logarithmic,
    mixture,
    report,
    symmetric,
)


def doppler(generator: Generator) -> Made:
    """Position and velocity in the plane, with range rates of one to three radars and a range or a bearing."""
    prior = mixture(generator, 4, int(generator.integers(1, 4)), 1.0)
    sensors = []
    for number in range(int(generator.integers(1, 4))):
        where = place(generator, 2.0, 10.0)
        sensors.append(range_rate((0, 1), (2, 3), 4, where, logarithmic(generator, 0.05, 0.3)))
        if number == 0 or generator.random() < 0.4:
            outlier = 0.05 if generator.random() < 0.3 else 0.0
            if generator.random() < 0.5:
                sensors.append(range_to((0, 1), 4, where, logarithmic(generator, 0.03, 0.3), outlier, 60.0))
            else:
                sensors.append(bearing((0, 1), 4, where, logarithmic(generator, 0.01, 0.1), outlier))
    return reported(generator, prior, sensors[:6])


def radar(outlier: float) -> Maker:
    """Distance, radial speed and bearing from one radar, under a prior of 100 m and 10 m/s."""

    def make(generator: Generator) -> Made:
        prior = gaussian(np.zeros(4), np.array([100.0, 100.0, 10.0, 10.0]))
        where = 100 * place(generator, 0.2, 2.0)
        sensors = [
            range_to((0, 1), 4, where, 1.0, outlier, 600.0),
            range_rate((0, 1), (2, 3), 4, where, 0.1, outlier, 60.0),
            bearing((0, 1), 4, where, 0.02, outlier),
        ]
        return reported(generator, prior, sensors)

    return make


def one_range(generator: Generator) -> Made:
    """Position in space under components of any shape, with one range, precise beside most of them."""
    prior = mixture(generator, 3, int(generator.integers(1, 4)), 0.3)
    outlier = 0.05 if generator.random() < 0.5 else 0.0
    where = logarithmic(generator, 2.0, 20.0) * direction(generator, 3)
    sensor = range_to((0, 1, 2), 3, where, logarithmic(generator, 0.01, 0.3), outlier, 60.0)
    return reported(generator, prior, [sensor])


def two_places(generator: Generator) -> Made:
    """Position in space, with five or six ranges from all around: some are of one place, the others of another."""
    prior = gaussian(np.zeros(3), 1.0)
    places, noise = generator.standard_normal((2, 3)), logarithmic(generator, 0.01, 0.5)
    count, outlier = int(generator.integers(5, 7)), float(generator.choice([0.02, 0.05, 0.1]))
    first, readings = int(generator.integers(2, count - 1)), []
    for number in range(count):
        where = logarithmic(generator, 2.0, 10.0) * direction(generator, 3)
        sensor = range_to((0, 1, 2), 3, where, noise, outlier, 60.0)
        readings.append(report(generator, sensor, places[0 if number < first else 1]))
    return prior, readings


def moving(order: int) -> Maker:
    """Position and `order` derivatives in space, correlated as after a prediction, with sensors of the position."""

    def make(generator: Generator) -> Made:
        count, size = int(generator.integers(1, 5)), 3 * (order + 1)
        # each component has other correlations of position and velocity, so the source of a component matters
        step = generator.uniform(0.3, 2.0, count)
        covariances, means = [], generator.standard_normal((count, size))
        if generator.random() < 0.5:  # components differ only in other coordinates than the position
            means[:, :3] = means[0, :3] + 0.2 * generator.standard_normal((count, 3))
        for k in range(count):
            shift = np.eye(order + 1)
            for row in range(order + 1):
                for column in range(row + 1, order + 1):
                    shift[row, column] = step[k] ** (column - row) / math.factorial(column - row)
            spread = np.exp(generator.uniform(math.log(0.2), math.log(1.0), order + 1))
            one = shift @ np.diag(spread**2) @ shift.T
            covariances.append(np.kron(one, np.eye(3)))
        prior = Mixture(generator.dirichlet(np.full(count, 2.0)), means, symmetric(np.array(covariances)))
        sensors = []
        for _ in range(int(generator.integers(1, 3))):
            where = logarithmic(generator, 2.0, 10.0) * direction(generator, 3)
            outlier = 0.05 if generator.random() < 0.3 else 0.0
            sensors.append(range_to((0, 1, 2), size, where, logarithmic(generator, 0.03, 0.3), outlier, 60.0))
            if generator.random() < 0.6:
                angle = logarithmic(generator, 0.01, 0.1)
                sensors.append(azimuth((0, 1, 2), size, where, angle, outlier))
                sensors.append(elevation((0, 1, 2), size, where, angle, outlier))
        return reported(generator, prior, sensors)

    return make
