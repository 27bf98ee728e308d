"""Measures the processor's time for a simulated fleet, so that two checkouts of this repository can be compared.

    PYTHONPATH=<checkout>/src python research/bench/fleet_cost.py

All updates count, from the first report of each entity; the start of the process does not. Run the checkouts in turns:
a busy machine changes the time of the same work by a fifth.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import Counter, defaultdict
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference import native_code, sensors
from beliefstream.inference.motion import ConstantVelocity
from beliefstream.inference.network import weights
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.tracking import filtering
from beliefstream.inference.tracking.events import Belief, Event, StateModel, instants
from beliefstream.inference.update.settings import WORKER
from beliefstream.inference.update.updater import Updater

Array = NDArray[np.float64]

COLD = 4  # reports of an entity that count as its start
DENSITY = 0.2  # m²/s³, of the motion
INTERVAL = 0.5  # s between the reports of an entity, on average
PRIOR = (60.0, 60.0, 2.0, 2.0)  # standard deviations of x, y (m), vx, vy (m/s)
HALF_WIDTH = 100.0  # m
CORRELATION_TIME = 5.0  # s, of errors that last
ALONE = 500  # steps of one entity alone, of each method


def fleet_sensors(errors: int = 0) -> list[Sensor]:
    """Two positions, ranges to the corners and bearings from outside; some with outliers.

    Each number has so many errors that last, as large as its noise; only the cost of them is simulated.
    """
    return [_lasting(sensor, number, errors) for number, sensor in enumerate(_plain_sensors())]


def _lasting(sensor: Sensor, number: int, errors: int) -> Sensor:
    for row, variance in enumerate(sensor.covariance.diagonal()):
        for each in range(errors):
            name, time = f"{number}/{row}/{each}", CORRELATION_TIME * (each + 1)
            error = sensors.PersistentError(name, math.sqrt(variance), time)
            sensor = sensors.with_errors(sensor, error, row=row)
    return sensor


def _plain_sensors() -> list[Sensor]:
    axes, size = [0, 1], 4
    corners = [(side * HALF_WIDTH, end * HALF_WIDTH) for side in (-1, 1) for end in (-1, 1)]
    stations = [(0.0, -110.0), (-110.0, 55.0), (110.0, 55.0)]
    return [
        sensors.position(axes, size, 2.25 * np.eye(2)),
        sensors.position(axes, size, 2.25 * np.eye(2), 0.1),
        *(
            sensors.range_to(axes, size, corner, 0.5, 0.2 * (number == 3), 300.0)
            for number, corner in enumerate(corners)
        ),
        *(
            sensors.bearing(axes, size, station, 0.03, 0.1 * (number == 2))
            for number, station in enumerate(stations)
        ),
    ]


def report(sensor: Sensor, number: int, state: Array, random: np.random.Generator) -> Array:
    """Draw the value that a sensor reports of a state; `number` is its place in `fleet_sensors`."""
    outlier = bool(random.random() < sensor.outlier_probability)
    if number < 2:
        return np.asarray(state[:2] + random.normal(0, 15.0 if outlier else 1.5, 2))
    east, north = state[:2] - sensor.origin
    if number < 6:
        return np.array(
            [random.uniform(0, 300) if outlier else math.hypot(east, north) + random.normal(0, 0.5)]
        )
    angle = random.uniform(-math.pi, math.pi) if outlier else math.atan2(north, east) + random.normal(0, 0.03)
    return np.array([math.remainder(angle, math.tau)])


def simulate(
    entities: int, reports: int, seed: int, errors: int = 0
) -> tuple[list[Event], dict[tuple[str, float], Array]]:
    """Events of all entities in order of time, and the true state at each."""
    random, known = np.random.default_rng(seed), fleet_sensors(errors)
    log, truth = [], {}
    for entity in range(entities):
        speed, course = random.uniform(1, 3), random.uniform(-math.pi, math.pi)
        velocity = [speed * math.cos(course), speed * math.sin(course)]
        state, now = np.array([*random.uniform(-70, 70, 2), *velocity]), 0.0
        for _ in range(reports):
            step = random.exponential(INTERVAL) + 1e-3
            now += step
            spread = DENSITY * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
            noise = np.linalg.cholesky(spread) @ random.normal(size=(2, 2))
            state = state + np.concatenate([step * state[2:] + noise[0], noise[1]])
            number = int(random.integers(len(known)))
            value = report(known[number], number, state, random)
            name = f"entity-{entity}"
            log.append(Event(name, now, Reading(known[number], value)))
            truth[name, now] = state
    return sorted(log, key=lambda event: float(event.time)), truth


def make_updater() -> Updater:
    """An updater with the settings of a worker."""
    native_code.prepare()
    return Updater(weights.load(), settings=WORKER)


def make_model() -> StateModel:
    """The model of an entity: constant velocity, and a wide prior."""
    belief = Belief(0.0, np.ones(1), np.zeros((1, 4)), np.diag(np.square(PRIOR))[None])
    return StateModel(ConstantVelocity((0, 1), (2, 3), DENSITY), belief)


def measure_alone(reports: int, seed: int, errors: int = 0) -> dict[str, float]:
    """Processor milliseconds of a step of one entity alone, by method; each of its steps is taken again and again."""
    model, updater = make_model(), make_updater()
    steps: dict[str, list[filtering.Step]] = defaultdict(list)
    belief = None
    for instant in instants(simulate(1, reports, seed, errors)[0]):
        step = filtering.Step(belief, model, instant)
        outcome = filtering.advance([step], updater)[0]
        steps[outcome.method].append(step)
        belief = outcome.belief
    found = {}
    for method, several in sorted(steps.items()):
        before = time.process_time()
        for step in islice(cycle(several), ALONE):
            filtering.advance([step], updater)
        found[method] = round(1e3 * (time.process_time() - before) / ALONE, 3)
    return found


def measure(entities: int, reports: int, seed: int, updater: Updater, errors: int = 0) -> dict[str, Any]:
    """Processor seconds of the fleet, of its start and of the rest, with the error and the losses of its beliefs."""
    model = make_model()
    log, truth = simulate(entities, reports, seed, errors)
    seconds, seen = {"cold": 0.0, "later": 0.0}, Counter[str]()
    methods, squares, losses, poor = Counter[str](), [], [], 0
    before = time.process_time()
    for entity, outcome in filtering.replay(log, lambda _: model, updater):
        seen[entity] += 1
        # all entities advance together, so time passes at the first of each round only
        seconds["cold" if seen[entity] <= COLD else "later"] += time.process_time() - before
        methods[outcome.method] += 1
        poor += outcome.sample_efficiency < 0.5
        state, found = truth[entity, outcome.belief.time], outcome.belief.mixture().marginal(range(4))
        squares.append(float(np.square(found.moments()[0][0].numpy() - state)[:2].sum()))
        losses.append(-float(found.log_density(torch.as_tensor(state)[None, None])[0, 0]))
        before = time.process_time()
    return {
        "seconds": round(sum(seconds.values()), 3),
        **{name: round(value, 3) for name, value in seconds.items()},
        "rmse": round(math.sqrt(float(np.mean(squares))), 4),
        "nll": round(float(np.mean(losses)), 4),
        "poor": int(poor),
        "methods": dict(sorted(methods.items())),
        "losses": losses,
        "from": str(filtering.__file__),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="processor seconds for a simulated fleet")
    parser.add_argument("--entities", type=int, default=50)
    parser.add_argument("--reports", type=int, default=44, help="of each entity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--alone", action="store_true", help="milliseconds of a step of one entity, by method"
    )
    parser.add_argument("--errors", type=int, default=0, help="that last, of each of 11 numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.alone:
        print(json.dumps(measure_alone(given.reports, given.seed, given.errors), indent=2))
        raise SystemExit
    figures = measure(given.entities, given.reports, given.seed, make_updater(), given.errors)
    del figures["losses"]
    print(json.dumps(figures, indent=2))
