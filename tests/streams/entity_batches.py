"""Batches of one entity whose messages are read back as `read` does, and what a round makes of them."""

from __future__ import annotations

import json

import numpy as np

from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking.events import Event, PriorChange
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Mixture, PositionSensor, Posterior, Reason, parse
from beliefstream.streams.definitions.models import belief_from_mixture
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.local.simulated_fleet import fleet_model
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.rounds import run_rounds

MODEL = EntityModel(fleet_model())
SENSOR = sensor_over(PositionSensor(sensor="s", standard_deviation=1.0), MODEL.message.coordinate_names)
STATED = PriorChange(belief_from_mixture(Mixture.gaussian((5.0, 5.0, 0.0, 0.0), 1.0), 0.0))


def seen(time: float, x: float = 1.0) -> Event:
    return Event("e", time, reading=Reading(SENSOR, np.array([x, 2.0])))


def stated(time: float, change: PriorChange = STATED) -> Event:
    return Event("e", time, prior=change)


def batch(
    *events: Event, record: BeliefRecord | None = None, key: bytes = b"e", first: int = 100
) -> EntityBatch:
    """An entity's batch; the events have ids 0, 1, ... and offsets 100, 101, ..., or from `first` on."""
    entity = EntityBatch(key, 0, record or BeliefRecord())
    for number, event in enumerate(events):
        kind = "prior" if event.prior is not None else "seen"
        x = float(event.reading.value[0]) if event.reading is not None else 0.0
        value = json.dumps({"kind": kind, "time": event.time, "x": x}).encode()
        is_prior = event.prior is not None
        entry = Entry(
            event,
            StoredMessage(is_prior, first + number, value),
            "" if is_prior else str(first - 100 + number),
        )
        entity.entries.append(entry)
    entity.set_model(MODEL)
    return entity


def read(key: bytes, stored_message: StoredMessage) -> tuple[Event, str]:
    """Reads a message back that `batch` has made, and which had no id of its sender's."""
    content = json.loads(stored_message.value)
    return stated(content["time"]) if stored_message.is_prior else seen(content["time"], content["x"]), ""


def run(updater: Updater, *entities: EntityBatch) -> list[Posterior]:
    for entity in entities:
        entity.plan(read, 256)
    records = run_rounds(entities, updater, TopicNames(), "tests")
    for entity in entities:
        entity.limit_past(256)
    return [parse(Posterior, record.value) for record in records]


def reasons(entity: EntityBatch) -> list[tuple[int, Reason]]:
    return [(rejected.message.offset, rejected.reason) for rejected in entity.rejected]
