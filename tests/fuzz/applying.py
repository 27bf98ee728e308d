"""What is accepted goes all the way: through the update, into the record, and back from its bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import LinearSensor, Posterior, Unusable, parse
from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.rounds import run_rounds
from beliefstream.streams.worker.validation import Validator
from tests.streams.oracle import updater

TOPICS = TopicNames()


def apply(definitions: Definitions, key: bytes, now: float, messages: Sequence[tuple[bool, bytes]]) -> bool:
    """Two batches of one entity, with all messages (whether a prior, value) in both; whether any is applied.

    Whatever they do to its belief, posteriors can be read, and the record is gone on with.
    """
    validator, record = Validator(definitions, 1_000_000, 60.0), BeliefRecord()

    def read(key: bytes, stored_message: StoredMessage) -> tuple[Event, str]:
        if stored_message.is_prior:
            event = validator.prior_or_reset(key, stored_message.value, now)[1]
            if event is None:
                raise ValueError("a reset is not applied like a prior")
            return event, ""
        return validator.observation(key, stored_message.value, now)[1], ""

    model = definitions.model_for(key.decode(errors="replace"))
    for first in (0, len(messages)):
        entity = EntityBatch(key, 0, record)
        for number, (is_prior, value) in enumerate(messages):
            stored_message = StoredMessage(is_prior, first + number, value)
            try:
                event, _ = read(key, stored_message)
            except (Unusable, ArithmeticError, ValueError):  # as `Fusion` takes them for dead letters
                continue
            entity.entries.append(Entry(event, stored_message, f"{first + number}"))
        if not entity.entries:
            return False
        assert model is not None
        entity.set_model(model)
        entity.plan(read, 256)
        for posterior in run_rounds([entity], updater(), TOPICS, "fuzz"):
            parse(Posterior, posterior.value)
        entity.limit_past(256)
        record = BeliefRecord.decode(entity.record.encode())
    return record.has_belief


def observed(definitions: Definitions, entity: str, now: float) -> tuple[bool, bytes]:
    """An observation of the first coordinate of that entity's state."""
    model = definitions.model_for(entity)
    assert model is not None
    first = model.message.coordinate_names[0]
    definitions.sensors["first"] = LinearSensor(sensor="first", rows=({first: 1.0},), standard_deviation=1.0)
    return False, json.dumps({"entity": entity, "sensor": "first", "time": now, "value": 1.0}).encode()
