"""One entity in a worker without Kafka: its messages come in batches, and its record goes through its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beliefstream.inference.tracking.events import Event
from beliefstream.inference.tracking.timeline import MOST
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Model, Observation, Posterior, Prior, Reset, Sensor, parse
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.worker.batch_validation import forget
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry, Rejected
from beliefstream.streams.worker.rounds import run_rounds
from beliefstream.streams.worker.validation import Validator

LARGEST = 1_000_000  # bytes of a message
Message = Observation | Prior | Reset


class OneEntity:
    """The record of one entity, and what its messages have led to.

    Attributes:
        record: as another worker reads it after the last batch.
        posteriors: all that were sent.
        rejected: all messages that became dead letters.
    """

    def __init__(self, model: Model, sensors: Iterable[Sensor], updater: Updater) -> None:
        self.definitions = Definitions("sensors", "models")
        self.definitions.sensors |= {sensor.sensor: sensor for sensor in sensors}
        self.definitions.models["*"] = EntityModel(model)
        self._validator = Validator(self.definitions, LARGEST, 0.0)
        self._updater, self._offset = updater, 0
        self.record = BeliefRecord()
        self.posteriors: list[Posterior] = []
        self.rejected: list[Rejected] = []

    def apply(self, messages: Sequence[Message]) -> None:
        """Apply a batch."""
        key = messages[0].entity.encode()
        batch = EntityBatch(key, 0, self.record)
        for message in messages:
            if isinstance(message, Reset):
                forget(batch, message, None, self._read)
                continue
            stored = StoredMessage(isinstance(message, Prior), self._offset, message.to_json())
            event, id = self._read(key, stored)
            batch.entries.append(Entry(event, stored, id, id=id))
            self._offset += 1
        model = self.definitions.model_for(batch.name)
        assert model is not None
        batch.set_model(model)
        batch.plan(self._read, MOST)
        sent = run_rounds([batch], self._updater, TopicNames(), "tests")
        batch.limit_past(MOST)
        self.posteriors += [parse(Posterior, record.value) for record in sent]
        self.rejected += batch.rejected
        self.record = BeliefRecord.decode(batch.record.encode())

    def _read(self, key: bytes, stored: StoredMessage) -> tuple[Event, str]:
        if stored.is_prior:
            _, event = self._validator.prior_or_reset(key, stored.value, 0.0)
            assert event is not None
            return event, ""
        message, event = self._validator.observation(key, stored.value, 0.0)
        return event, message.id or ""
