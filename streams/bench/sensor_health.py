"""Measures what the health of sensors costs a batch: `python -m beliefstream.streams.bench.sensor_health`."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import faust
import numpy as np
import torch

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking.events import Event, Instant
from beliefstream.inference.tracking.health.columns import Array
from beliefstream.inference.tracking.health.fits import fits
from beliefstream.schemas import PositionSensor
from beliefstream.streams.bench.update import BATCH
from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.kafka.producing import Lease
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.state.stores import BeliefTable
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.rounds import Fitted
from beliefstream.streams.worker.sensor_health import SensorHealthKeeper

SENSORS, COMPONENTS = 50, 4
REPEATS = 15


def problem() -> tuple[list[list[Reading]], GaussianMixture]:
    """Return a batch: positions and ranges of entities with four components in four coordinates."""
    random = np.random.default_rng(0)
    weights = random.dirichlet(np.ones(COMPONENTS), BATCH)
    means = random.normal(0, 1, (BATCH, COMPONENTS, 4)) + np.array([30.0, 40.0, 0.0, 0.0])
    covariances = np.tile(0.1 * np.eye(4), (BATCH, COMPONENTS, 1, 1))
    prior = GaussianMixture.from_weights(*map(torch.from_numpy, (weights, means, covariances)))
    ranging = sensors.range_to([0, 1], 4, (0.0, 0.0), 0.5, 0.05, 100.0)
    seeing = sensors.position([0, 1], 4, 0.25 * np.eye(2))
    values = (np.array([50.0]), np.array([30.0, 40.0]))
    return [[Reading((ranging, seeing)[row % 2], values[row % 2])] for row in range(BATCH)], prior


def keep(found: list[Array]) -> Callable[[], object]:
    """Return a function that counts one more batch of observations by 50 sensors, and stores it."""
    app = faust.App("bench", broker="kafka://127.0.0.1:1", store="memory://", Table=BeliefTable)
    table: Any = app.Table("beliefs", key_type=bytes, value_type=bytes, partitions=1)
    definitions = Definitions("sensors", "models")
    for number in range(SENSORS):
        name = f"gps-{number}"
        definitions.sensors[name] = PositionSensor(sensor=name, standard_deviation=1.0)
    keeper = SensorHealthKeeper(TopicNames(), "bench", definitions, table.store, lambda _: 0, 3600.0)
    leases, positions, batches = {0: Lease("bench", 1, 0)}, found[1::2] * 2, iter(range(10**9))
    reading = Reading(sensors.position([0, 1], 4, np.eye(2)), np.zeros(2))

    def work() -> object:
        number = next(batches)
        entity = EntityBatch(b"entity", 0, BeliefRecord())
        for row in range(BATCH):
            message = StoredMessage(False, number * BATCH + row, b"")
            event = Event("entity", number * 0.5, reading)
            entity.accept(Entry(event, message, sensor=f"gps-{row % SENSORS}"))
        fitted = Fitted()
        for row, rows in enumerate(positions):
            fitted.add(entity, Instant(number * 0.5, (reading,), labels=(row,)), rows)
        changes = keeper.add(fitted, leases)
        for partition, entries in changes.entries.items():
            table.store.write_own(partition, entries, -1, 0)
        return changes

    return work


def processor_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median processor time of one call, after a call that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return median(seconds)


def main() -> None:
    """Print the processor time of a batch, and of an observation."""
    torch.set_num_threads(1)
    readings, prior = problem()
    judging = processor_seconds(lambda: fits(readings, prior), REPEATS)
    keeping = processor_seconds(keep(fits(readings, prior)), 60)
    for name, seconds in (("fits", judging), ("sums, tests and storing", keeping)):
        print(f"{name}: {seconds * 1e3:.1f} ms for {BATCH} observations, {seconds / BATCH * 1e6:.1f} µs each")


if __name__ == "__main__":
    main()
