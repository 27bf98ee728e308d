"""Measures recovery on one core: joint updates and records of entities at rest, and updates after a silence.

python -m research.bench.at_rest
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.tracking.recovery.history import History
from beliefstream.inference.tracking.timeline import MOST
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import BearingSensor, Mixture, RangeSensor, SignalStrengthSensor
from beliefstream.streams.definitions.models import belief_from_mixture
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.demo.crate import crate
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from research.bench.late_observations import OfflineTable

REPORTS, REPEATS = (8, 32, 60), 3
CORNERS = np.array([(-10.0, -10.0, 0.0), (10.0, -10.0, 3.0), (-10.0, 10.0, 3.0), (10.0, 10.0, 0.0)])  # m
PLACE = np.array([3.0, -2.0, 1.0])  # m


def readings(kind: str, number: int, generator: np.random.Generator) -> list[Reading]:
    """Reports of four sensors in turn, one in twenty ten standard deviations off, about an entity at `PLACE`."""
    names = ("x", "y", "z") if kind == "ranges in space" else ("x", "y")
    found = []
    for turn in range(number):
        corner = CORNERS[turn % 4, : len(names)]
        away = PLACE[: len(names)] - corner
        distance = float(np.linalg.norm(away))
        sensor: BearingSensor | RangeSensor | SignalStrengthSensor
        options: dict[str, Any] = {"sensor": "s", "position": tuple(corner), "outlier_probability": 0.05}
        if kind == "bearings":
            sensor, value = BearingSensor(**options, standard_deviation=0.02), np.arctan2(away[1], away[0])
        elif kind == "signal strengths":
            sensor = SignalStrengthSensor(**options, standard_deviation=4.0, reference_power=-40.0)
            value = -40.0 - 20 * np.log10(distance)
        else:
            sensor, value = RangeSensor(**options, coordinates=names, standard_deviation=0.3), distance
        deviations = generator.standard_normal() + 10 * (generator.random() < 0.05)
        value += sensor.standard_deviation * deviations
        found.append(Reading(sensor_over(sensor, names), np.array([value])))
    return found


def costs(updater: Updater) -> Iterator[str]:
    """Yield a table: milliseconds of a joint update, the median of `REPEATS` draws."""
    yield f"| joint update, ms | {' | '.join(f'{number} reports' for number in REPORTS)} |"
    yield "|---|" + "---:|" * len(REPORTS)
    for kind in ("ranges", "bearings", "signal strengths", "ranges in space"):
        size = 3 if kind == "ranges in space" else 2
        prior = belief_from_mixture(Mixture.gaussian((0.0,) * size, 10.0), 0.0).mixture()
        cells = []
        for number in REPORTS:
            taken = []
            for seed in range(REPEATS + 1):  # the first one warms up
                problem = encode([readings(kind, number, np.random.default_rng(seed))], size)
                began = time.perf_counter()
                updater.update(prior, problem)
                taken.append(1e3 * (time.perf_counter() - began))
            cells.append(f"{np.median(taken[1:]):.2g}")
        yield f"| {kind} | {' | '.join(cells)} |"


def silences(updater: Updater) -> Iterator[str]:
    """Yield a table: milliseconds of the update with an outlier, so many reports after a silence, as `costs`."""
    yield "| reports since the silence | update with an outlier, ms |"
    yield "|---:|---:|"
    prior = belief_from_mixture(Mixture.gaussian((0.0, 0.0), 10.0), 0.0)
    model = StateModel(RandomWalk((0.02, 0.02)), prior)
    for number in REPORTS:
        taken = [_after_silence(updater, model, number, seed) for seed in range(REPEATS + 1)]
        yield f"| {number} | {np.median(taken[1:]):.2g} |"


def _after_silence(updater: Updater, model: StateModel, number: int, seed: int) -> float:
    generator, belief, history, milliseconds = np.random.default_rng(seed), None, History(), 0.0
    seen = readings("ranges", 10 + number, generator)
    seen[-1] = replace(seen[-1], value=seen[-1].value + 20.0)
    for turn, reading in enumerate(seen):
        time_of = turn + 300.0 * (turn >= 10)
        step = Step(belief, model, Instant(time_of, (reading,)), history.earlier(time_of))
        began = time.perf_counter()
        (outcome,) = advance([step], updater)
        milliseconds = 1e3 * (time.perf_counter() - began)
        history.add(step, outcome)
        belief = outcome.belief
    return milliseconds


def sizes(updater: Updater) -> Iterator[str]:
    """Yield a table: bytes of the record of a crate, from whose beacons it gets ranges."""
    recording = crate(100.0, before=60)
    table = OfflineTable(recording.model, recording.sensors, updater, MOST)
    yield "| reports | bytes of the record |"
    yield "|---:|---:|"
    for number, observation in enumerate(recording.observations, 1):
        table.apply([observation])
        if number in (1, 8, 32, 64, 80):
            yield f"| {number} | {len(next(iter(table.records.values()))):,} |"


def main() -> None:
    """Print all tables."""
    torch.set_num_threads(1)
    updater = make_updater(Settings())
    updater = updater.with_components(8)
    print(*costs(updater), "", *silences(updater), "", *sizes(updater), sep="\n")


if __name__ == "__main__":
    main()
