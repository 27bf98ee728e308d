"""Measures the cost of a late observation and the size of an entity's record, without Kafka and on one core."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beliefstream.inference.tracking.events import Event
from beliefstream.inference.tracking.timeline import MOST
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Model, Observation, Sensor
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.kafka.producing import Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.state.record import BeliefRecord, RecordCache, StoredMessage, encode_states
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.rounds import run_rounds
from beliefstream.streams.worker.validation import Validator

LARGEST = 1_000_000  # bytes; largest message
ENTITIES = 64


class OfflineTable:
    """Records of entities that are updated with batches of observations as in a worker, without Kafka."""

    def __init__(
        self,
        model: Model,
        sensors: Iterable[Sensor],
        updater: Updater,
        most: int = MOST,
        cache: RecordCache | None = None,
    ) -> None:
        self._definitions = Definitions("sensors", "models")
        self._definitions.sensors |= {sensor.sensor: sensor for sensor in sensors}
        self._definitions.models["*"] = EntityModel(model)
        self._validator = Validator(self._definitions, LARGEST, 0.0)
        self._updater, self._most = updater, most
        self._cache = cache if cache is not None else RecordCache()
        self.records: dict[bytes, bytes] = {}
        self._offset = 0

    def apply(self, observations: Sequence[Observation]) -> tuple[list[Record], int]:
        """Return the posteriors to send, and the number of computed instants."""
        batch: dict[bytes, EntityBatch] = {}
        for observation in observations:
            key, raw = observation.entity.encode(), observation.to_json()
            entity = batch.get(key)
            if entity is None:
                stored = self.records.get(key)
                record = self._cache.take(0, key, stored) if stored is not None else BeliefRecord()
                entity = batch[key] = EntityBatch(key, 0, record)
            message, event = self._validator.observation(key, raw, 0.0)
            name, stored_message = message.id or str(self._offset), StoredMessage(False, self._offset, raw)
            entity.entries.append(Entry(event, stored_message, name, id=message.id or ""))
            self._offset += 1
        for entity in batch.values():
            model = self._definitions.model_for(entity.name)
            assert model is not None
            entity.set_model(model)
            entity.plan(self._read, self._most)
        posteriors = run_rounds(list(batch.values()), self._updater, TopicNames(), "bench")
        for entity in batch.values():
            entity.limit_past(self._most)
        encode_states(entity.record for entity in batch.values())
        for key, entity in batch.items():
            self.records[key] = raw = entity.record.encode()
            self._cache.put(0, key, raw, entity.record)
        return posteriors, sum(len(entity.instants) for entity in batch.values())

    def _read(self, key: bytes, stored_message: StoredMessage) -> tuple[Event, str]:
        message, event = self._validator.observation(key, stored_message.value, 0.0)
        return event, message.id or ""


@dataclass(frozen=True)
class Cost:
    """Cost of one observation that arrives after `newer` later ones of its entity."""

    newer: int
    instants: float  # number of computed instants
    milliseconds: float


@dataclass(frozen=True)
class Size:
    """Mean size of the records for one lateness window."""

    window: float  # s
    rate: float  # observations of an entity per second
    moments: float
    beliefs: float
    bytes: float


def costs(
    updater: Updater,
    newer: Sequence[int] = (0, 1, 2, 4, 8),
    rate: float = 10.0,
    repeats: int = 3,
    entities: int = ENTITIES,
) -> list[Cost]:
    """Measure late observations: one of each entity, after each number of `newer` ones; the median of the repeats.

    The newer observations of each repeat arrive first, in a separate batch.
    """
    longest = max(newer) + 1
    duration = (repeats + 3) * longest / rate
    simulation = simulate(entities=entities, duration=duration, rate=rate)
    model = simulation.model.model_copy(update={"lateness_window": duration})
    by_entity = _by_entity(simulation.observations)
    found = []
    for lag in newer:
        table, taken = OfflineTable(model, simulation.sensors, updater), []
        start = 2 * longest
        table.apply([observation for one in by_entity for observation in one[:start]])
        for repeat in range(repeats):
            first = start + repeat * (lag + 1)
            groups = [one[first : first + lag + 1] for one in by_entity if len(one) > first + lag]
            table.apply([observation for group in groups for observation in group[1:]])
            began = time.process_time()
            _, instants = table.apply([group[0] for group in groups])
            taken.append((1e3 * (time.process_time() - began) / len(groups), instants / len(groups)))
        milliseconds, computed = sorted(taken)[len(taken) // 2]
        found.append(Cost(lag, computed, milliseconds))
    return found


def sizes(
    updater: Updater, windows: Sequence[float] = (0.0, 2.0, 10.0), rate: float = 2.0, entities: int = ENTITIES
) -> list[Size]:
    """Measure the records of entities when their size has settled, for each window length in seconds."""
    found = []
    for window in windows:
        simulation = simulate(entities=entities, duration=2.0 * window + 4.0, rate=rate)
        model = simulation.model.model_copy(update={"lateness_window": window})
        table = OfflineTable(model, simulation.sensors, updater)
        by_entity = _by_entity(simulation.observations)
        for index in range(max(map(len, by_entity))):
            table.apply([one[index] for one in by_entity if index < len(one)])
        records = [BeliefRecord.decode(raw).past.moments for raw in table.records.values()]
        moments = sum(map(len, records)) / len(records)
        beliefs = sum(moment.state is not None for one in records for moment in one) / len(records) + 1
        size = sum(map(len, table.records.values())) / len(records)
        found.append(Size(window, rate, moments, beliefs, size))
    return found


def _by_entity(observations: Iterable[Observation]) -> list[list[Observation]]:
    found: dict[str, list[Observation]] = {}
    for observation in observations:
        found.setdefault(observation.entity, []).append(observation)
    return list(found.values())
