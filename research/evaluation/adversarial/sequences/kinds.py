"""Kinds of runs in the plane: lengths in metres, reports mostly one a second.

A run depends only on its kind, seed and number. Reports are drawn from the models of their sensors, except where the
docstring of a kind says otherwise: there the belief is told less than the truth, as in practice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors import bearing, position, range_to, signal_strength
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.tracking.events import Belief, Event, Instant, StateModel, instants
from research.evaluation.adversarial.chains import SHARE
from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import (
    Generator,
    direction,
    gaussian,
    logarithmic,
    report,
    source,
)

PLANE = (0, 1)
SPAN = 20.0  # longest range of a sensor
WIDTH = 2.0  # deviation of most priors
Rows = list[list[Reading]]
"""Readings of each instant."""


class Move(NamedTuple):
    """A change after which the reports tell of another place than the belief does.

    Attributes:
        after: number of instants before it.
        old: where the belief is, ``(2,)``.
        new: where the reports are from then on, ``(2,)``.
    """

    after: int
    old: Array
    new: Array


@dataclass(frozen=True)
class Run:
    """A prior and the instants of one entity.

    Attributes:
        prior: over the plane, at the time of the first instant.
        instants: in order of time.
        places: where reports come from, ``(2,)`` each.
        precision: deviation of one report in the plane, metres.
        moves: changes that a belief should follow, in order.
        drift: standard deviation of the entity's walk along each axis after a second; 0 if it is at rest.
    """

    prior: Mixture
    instants: tuple[Instant, ...]
    places: tuple[Array, ...]
    precision: float
    moves: tuple[Move, ...] = ()
    drift: float = 0.0

    @property
    def model(self) -> StateModel:
        return StateModel(RandomWalk((self.drift**2, self.drift**2)), Belief(0.0, *self.prior))

    @property
    def rows(self) -> Rows:
        return [list(instant.readings) for instant in self.instants]

    @property
    def times(self) -> list[float]:
        return [instant.time for instant in self.instants]


Kind = Callable[[Generator], Run]
Sensors = Callable[[Generator], tuple[list[Sensor], float]]
"""Draws sensors and their precision in the plane, metres."""


def timed(rows: Rows, times: Sequence[float] | None = None) -> tuple[Instant, ...]:
    """Return instants, with their readings in the order of a worker; one second apart if there are no times."""
    times = range(len(rows)) if times is None else times
    events = [
        Event("", float(time), reading) for time, row in zip(times, rows, strict=True) for reading in row
    ]
    return tuple(instants(events))


def about(generator: Generator, sensors: Sequence[Sensor], at: Array, count: int) -> Rows:
    """Draw `count` reports of the place `at`, each of a sensor drawn at random, one an instant."""
    return [[report(generator, sensors[i], at)] for i in generator.integers(len(sensors), size=count)]


def anchors(generator: Generator, count: int, nearest: float = 3.0, farthest: float = 8.0) -> list[Array]:
    """Draw places around the origin, in directions that are spread over the circle."""
    turns = (
        2 * math.pi * (np.arange(count) + generator.uniform(-0.3, 0.3, count) + generator.random()) / count
    )
    return [generator.uniform(nearest, farthest) * np.array([math.cos(t), math.sin(t)]) for t in turns]


def outliers(generator: Generator) -> float:
    return generator.uniform(0.02, 0.1)


def ranges(generator: Generator) -> tuple[list[Sensor], float]:
    """Draw three or four anchors around the origin."""
    noise, outlier = logarithmic(generator, 0.05, 0.15), outliers(generator)
    places = anchors(generator, int(generator.integers(3, 5)))
    return [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in places], noise


def strengths(generator: Generator) -> tuple[list[Sensor], float]:
    deviation, outlier = logarithmic(generator, 0.5, 1.5), outliers(generator)
    exponent, places = generator.uniform(1.8, 3.0), anchors(generator, int(generator.integers(3, 5)))
    sensors = [
        signal_strength(
            PLANE, 2, where, deviation, -59.0, exponent, outlier_probability=outlier, outlier_span=60.0
        )
        for where in places
    ]
    return sensors, 3.0 * deviation * math.log(10) / (10 * exponent)  # at three metres


def bearings(generator: Generator) -> tuple[list[Sensor], float]:
    deviation, outlier = logarithmic(generator, 0.01, 0.03), outliers(generator)
    places = anchors(generator, int(generator.integers(3, 5)))
    return [bearing(PLANE, 2, where, deviation, outlier) for where in places], 3.0 * deviation


def positions(generator: Generator) -> tuple[list[Sensor], float]:
    noise = logarithmic(generator, 0.05, 0.15)
    return [position(PLANE, 2, noise**2 * np.eye(2), outliers(generator))], noise


def other(generator: Generator, place: Array, nearest: float = 0.3, farthest: float = 1.5) -> Array:
    """Draw a place so far from another."""
    return place + generator.uniform(nearest, farthest) * direction(generator)


def moved(draw: Sensors, nearest: float = 0.3, farthest: float = 1.5) -> Kind:
    """Fifteen reports of one place, then 25 of another, although the entity is said to be at rest."""

    def make(generator: Generator) -> Run:
        sensors, precision = draw(generator)
        x = generator.normal(0.0, 1.0, 2)
        y = other(generator, x, nearest, farthest)
        rows = about(generator, sensors, x, 15) + about(generator, sensors, y, 25)
        return Run(gaussian(np.zeros(2), WIDTH), timed(rows), (x, y), precision, (Move(15, x, y),))

    return make


def there_and_back(generator: Generator) -> Run:
    """Fifteen ranges of one place, twelve of another, and fifteen of the first."""
    sensors, precision = ranges(generator)
    x = generator.normal(0.0, 1.0, 2)
    y = other(generator, x)
    rows = [row for at, count in ((x, 15), (y, 12), (x, 15)) for row in about(generator, sensors, at, count)]
    moves = Move(15, x, y), Move(27, y, x)
    return Run(gaussian(np.zeros(2), WIDTH), timed(rows), (x, y), precision, moves)


def alternating(generator: Generator) -> Run:
    """Forty ranges, by turns of a tag and of its reflection."""
    sensors, precision = ranges(generator)
    x = generator.normal(0.0, 1.0, 2)
    places = x, other(generator, x)
    rows = [row for turn in range(40) for row in about(generator, sensors, places[turn % 2], 1)]
    return Run(gaussian(np.zeros(2), WIDTH), timed(rows), places, precision)


def mirror(generator: Generator) -> tuple[Array, Array, list[Array]]:
    """Draw a place, its mirror image, and anchors: two on the mirror, and one beside it."""
    along = direction(generator)
    across = np.array([-along[1], along[0]])
    shift, height = generator.uniform(-1, 1) * along, generator.uniform(0.5, 1.5) * across
    there = [side * generator.uniform(3, 8) * along for side in (-1, 1)]
    beside = generator.choice([-1, 1]) * generator.uniform(3, 8) * across + generator.uniform(-1, 1) * along
    return shift + height, shift - height, [*there, beside]


def light_component(generator: Generator) -> Run:
    """A true component of weight 1e-8 to 1e-5, ten ranges that its mirror image explains too, and four that tell."""
    noise, outlier = logarithmic(generator, 0.05, 0.15), float(generator.choice([0.0, outliers(generator)]))
    true, image, there = mirror(generator)
    sensors = [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in there]
    weight, spread = logarithmic(generator, 1e-8, 1e-5), generator.uniform(0.2, 0.5) ** 2 * np.eye(2)
    prior = Mixture(np.array([1 - weight, weight]), np.array([image, true]), np.array([spread, spread]))
    at = generator.multivariate_normal(true, 0.25 * spread)
    rows = about(generator, sensors[:2], at, 10) + about(generator, sensors[2:], at, 4)
    return Run(prior, timed(rows), (true, image), noise, (Move(10, image, true),))


def mirror_images(generator: Generator) -> Run:
    """Two anchors, which do not tell mirror images apart, and after 24 ranges a third, for the less probable one."""
    noise, outlier = logarithmic(generator, 0.05, 0.15), outliers(generator)
    true, image, there = mirror(generator)
    sensors = [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in there]
    prior = gaussian(generator.uniform(0.7, 1.3) * image, generator.uniform(0.5, 1.0))
    rows = about(generator, sensors[:2], true, 24) + about(generator, sensors[2:], true, 8)
    return Run(prior, timed(rows), (true, image), noise, (Move(24, image, true),))


def reflections(generator: Generator) -> Run:
    """Forty ranges of two anchors; a share of them is longer by a constant, of which the sensor's model is not told."""
    noise, outlier = logarithmic(generator, 0.05, 0.15), generator.uniform(0.1, 0.3)
    at, _, there = mirror(generator)
    sensors = [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in there[:2]]
    share, way = generator.uniform(0.1, 0.5), generator.uniform(0.5, 2.0)
    rows = [
        [replace(reading, value=reading.value + way * (generator.random() < share))]
        for (reading,) in about(generator, sensors, at, 40)
    ]
    prior = gaussian(generator.normal(0.0, 1.0, 2), WIDTH)
    return Run(prior, timed(rows), (at,), noise)


def ordinary(generator: Generator) -> Run:
    """Forty ranges with as many outliers as the sensors say: nothing to recover from."""
    noise, at = logarithmic(generator, 0.05, 0.15), generator.normal(0.0, 1.0, 2)
    there = anchors(generator, int(generator.integers(3, 5)))
    sensors = [range_to(PLANE, 2, where, noise, 0.1, SPAN) for where in there]
    return Run(gaussian(np.zeros(2), WIDTH), timed(about(generator, sensors, at, 40)), (at,), noise)


def wrong_prior(generator: Generator) -> Run:
    """A prior five to eight deviations off, and twenty ranges; half of the runs have no outliers."""
    noise = logarithmic(generator, 0.05, 0.15)
    outlier = outliers(generator) if generator.random() < 0.5 else 0.0
    there = anchors(generator, int(generator.integers(3, 5)))
    sensors = [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in there]
    at, deviation = generator.normal(0.0, 1.0, 2), generator.uniform(0.3, 0.8)
    stated = at + generator.uniform(5, 8) * deviation * direction(generator)
    rows = about(generator, sensors, at, 20)
    return Run(gaussian(stated, deviation), timed(rows), (stated, at), noise, (Move(0, stated, at),))


def two_camps(generator: Generator) -> Run:
    """Three to five instants of 12 to 18 ranges each; half of them agree on one place, the others on another."""
    noise, outlier = logarithmic(generator, 0.05, 0.15), generator.uniform(0.05, 0.3)
    there, x = anchors(generator, int(generator.integers(4, 7))), generator.normal(0.0, 1.0, 2)
    sensors = [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in there]
    places = x, other(generator, x)
    rows = []
    for _ in range(int(generator.integers(3, 6))):
        half = int(generator.integers(6, 10))
        rows.append([row[0] for at in places for row in about(generator, sensors, at, half)])
    return Run(gaussian(np.zeros(2), WIDTH), timed(rows), places, noise)


def scans(generator: Generator) -> Run:
    """Two instants of 30 to 60 ranges each, of one place; half of the runs have no outliers."""
    noise, outlier = logarithmic(generator, 0.05, 0.15), float(generator.choice([0.0, 0.05]))
    there, at = anchors(generator, int(generator.integers(5, 9))), generator.normal(0.0, 1.0, 2)
    sensors = [range_to(PLANE, 2, where, noise, outlier, SPAN) for where in there]
    rows = [
        [row[0] for row in about(generator, sensors, at, int(generator.integers(30, 61)))] for _ in range(2)
    ]
    return Run(gaussian(np.zeros(2), WIDTH), timed(rows), (at,), noise)


def carried_away(generator: Generator) -> Run:
    """A drifting entity that is carried .5 to 1.5 m between two reports a second apart."""
    return _drifting(generator, 1.0, generator.uniform(0.5, 1.5), 0.0)


def moved_in_silence(generator: Generator) -> Run:
    """A drifting entity that is silent for 60 to 300 s, and has then moved five to eight deviations of its drift."""
    return _drifting(generator, generator.uniform(60.0, 300.0), 0.0, generator.uniform(5.0, 8.0))


def _drifting(generator: Generator, pause: float, away: float, deviations: float) -> Run:
    """Twenty ranges, a pause with a jump of `away` metres and so many `deviations`, and twenty ranges."""
    sensors, precision = ranges(generator)
    drift = logarithmic(generator, 0.02, 0.1)
    prior = gaussian(np.zeros(2), 0.7)
    times = np.arange(40.0) + np.where(np.arange(40) < 20, 0.0, pause - 1)
    at = generator.normal(0.0, 0.7, 2)
    places, rows = [], []
    for turn in range(40):
        if turn:
            at = at + drift * generator.standard_normal(2)
        if turn == 20:
            places.append(at)
            at = at + (away + deviations * drift * math.sqrt(pause)) * direction(generator)
            places.append(at)
        rows += about(generator, sensors, at, 1)
    x, y = places
    return Run(prior, timed(rows, times.tolist()), (x, y), precision, (Move(20, x, y),), drift)


KINDS: dict[str, Kind] = {
    "moved": moved(ranges),
    "there and back": there_and_back,
    "alternating": alternating,
    "light component": light_component,
    "mirror images confirmed": mirror_images,
    "reflections, two anchors": reflections,
    "ordinary": ordinary,
    "signal strengths, moved": moved(strengths, 1.0, 4.0),
    "bearings, moved": moved(bearings),
    "positions, moved": moved(positions),
    "wrong prior": wrong_prior,
    "two camps at one instant": two_camps,
    "a scan at one instant": scans,
    "drifting, carried away": carried_away,
    "drifting, moved in silence": moved_in_silence,
}
"""Function that makes a run, by kind."""
SEQUENCES = "sequences"  # name of all kinds together


def sequences(family: str, count: int, seed: int) -> list[Run]:
    """Return one run per `SHARE` of `count` problems, at least one; raises ValueError for an unknown kind."""
    if family not in KINDS:
        raise ValueError(f"family: expected one of {sorted(KINDS)}, got {family!r}")
    return [KINDS[family](source(family, seed, number)) for number in range(math.ceil(count / SHARE))]
