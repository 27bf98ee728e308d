"""Families of many successive updates of a fixed or a moving entity.

A chain is one problem. Its answer is the belief after the last update, which is compared with the exact posterior of
all reports.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from beliefstream.inference.motion import ConstantVelocity, Motion, RandomWalk
from beliefstream.inference.sensors import bearing, function, range_to, signal_strength
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from research.evaluation.adversarial.filters import Filtered, particles, walk
from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.makers.shapes import slant
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import Exact, solve
from research.evaluation.adversarial.problems import (
    Generator,
    direction,
    gaussian,
    logarithmic,
    report,
    source,
)

PLANE = (0, 1)
UPDATES = 1000
STEPS = 200


@dataclass(frozen=True)
class Chain:
    """Readings of one entity, one instant per second; `exact` computes the exact posterior."""

    family: str
    model: StateModel
    instants: tuple[Instant, ...]
    exact: Callable[[Generator], Exact | Filtered]


def _chain(
    family: str, motion: Motion, prior: Mixture, readings: list[list[Reading]], exact: object
) -> Chain:
    model = StateModel(motion, Belief(0.0, *prior))
    instants = tuple(Instant(float(i), tuple(row)) for i, row in enumerate(readings))
    return Chain(family, model, instants, exact)  # type: ignore[arg-type]


def static(generator: Generator, updates: int = UPDATES) -> Chain:
    """Make a chain of many weak reports of signal strength, range or bearing, one at a time."""
    size = 10.0
    prior = gaussian(np.zeros(2), size * generator.uniform(0.5, 1.0, 2))
    at = prior.means[0] + np.sqrt(np.diagonal(prior.covariances[0])) * generator.standard_normal(2)
    kind, sensors = int(generator.integers(3)), []
    for _ in range(int(generator.integers(3, 8))):
        where = size * generator.uniform(0.3, 1.5) * direction(generator)
        if kind == 0:
            deviation = generator.uniform(4.0, 8.0)
            sensors.append(signal_strength(PLANE, 2, where, deviation, -59.0, generator.uniform(1.8, 3.0)))
        elif kind == 1:
            sensors.append(range_to(PLANE, 2, where, size * generator.uniform(0.5, 2.0)))
        else:
            sensors.append(bearing(PLANE, 2, where, generator.uniform(0.3, 0.8)))
    chosen = generator.integers(len(sensors), size=updates)
    readings = [report(generator, sensors[i], at) for i in chosen]
    return _chain(
        "static chains",
        RandomWalk((0.0, 0.0)),
        prior,
        [[reading] for reading in readings],
        lambda draws: solve(prior, readings, draws),
    )


def random_walk(generator: Generator, steps: int = STEPS) -> Chain:
    """Make a random walk with ranges to two or three anchors, one at a time, so that mirror images come and go."""
    prior = gaussian(generator.normal(0.0, 0.5, 2), 1.0)
    noise, drift = logarithmic(generator, 0.1, 0.5), logarithmic(generator, 0.05, 0.15)
    outlier = 0.05 if generator.random() < 0.5 else 0.0
    anchors = [generator.uniform(-4, 4, 2) for _ in range(int(generator.integers(2, 4)))]
    sensors = [range_to(PLANE, 2, where, noise, outlier, 20.0) for where in anchors]
    at, readings = generator.normal(prior.means[0], 1.0), []
    for step in range(steps):
        at = at + (drift * generator.standard_normal(2) if step else 0.0)
        readings.append([report(generator, sensors[int(generator.integers(len(sensors)))], at)])
    motion = RandomWalk((drift**2, drift**2))
    return _chain(
        "filters, random walk",
        motion,
        prior,
        readings,
        lambda _: deque(walk(prior, readings, drift), maxlen=1).pop(),
    )


def passing(generator: Generator, steps: int = STEPS) -> Chain:
    """Make a motion along a line with ranges to one or two stations beside it, which do not determine the side."""
    density = logarithmic(generator, 0.01, 0.1)
    prior = gaussian([generator.uniform(-2, 2), 0.0], [5.0, 1.0])
    outlier = 0.05 if generator.random() < 0.3 else 0.0
    sensors: list[Sensor] = []
    for _ in range(int(generator.integers(1, 3))):  # one station alone never distinguishes the mirror images
        height, deviation = {"height": generator.uniform(2, 10)}, logarithmic(generator, 0.5, 2.0)
        where = [generator.uniform(-3, 3)]
        sensors.append(function(slant, [0], 2, deviation, height, outlier, 500.0, origin=where))
    transition, spread = velocity_step(density)
    factor, at = (
        np.linalg.cholesky(spread),
        generator.multivariate_normal(prior.means[0], prior.covariances[0]),
    )
    readings = []
    for step in range(steps):
        at = transition @ at + factor @ generator.standard_normal(2) if step else at
        readings.append([report(generator, sensors[int(generator.integers(len(sensors)))], at)])
    motion = ConstantVelocity((0,), (1,), density)
    return _chain(
        "filters, passing",
        motion,
        prior,
        readings,
        lambda draws: particles(prior, readings, transition, spread, draws),
    )


def velocity_step(density: float) -> tuple[Array, Array]:
    """Return transition and noise of position and velocity over one second of white-noise acceleration."""
    return np.array([[1.0, 1.0], [0.0, 1.0]]), density * np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]])


CHAINS: dict[str, Callable[[Generator], Chain]] = {
    "static chains": static,
    "filters, random walk": random_walk,
    "filters, passing": passing,
}
"""Function that makes a chain, by family."""
SHARE = 10  # number of problems of other families per chain


def chains(family: str, count: int, seed: int) -> list[Chain]:
    """Return one chain per `SHARE` of `count` problems, at least one; raises ValueError for an unknown family."""
    if family not in CHAINS:
        raise ValueError(f"family: expected one of {sorted(CHAINS)}, got {family!r}")
    return [CHAINS[family](source(family, seed, number)) for number in range(math.ceil(count / SHARE))]
