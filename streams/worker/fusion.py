"""Computes the results of one batch of messages: validate, group, predict and update.

Nothing is sent here (`streams.worker.delivery`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from faust.types import TP, EventT

from beliefstream.inference.tracking.timeline import MOST
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.producing import Record, attempts, retry_unless
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.expiry import Expiry
from beliefstream.streams.state.fencing import Fencing
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.record import encode_states
from beliefstream.streams.state.stores import BeliefStore, Changes
from beliefstream.streams.state.unwritten import Unwritten
from beliefstream.streams.worker.batch import Batch, end_offsets
from beliefstream.streams.worker.batch_validation import BatchValidator
from beliefstream.streams.worker.checkpoints import pass_by
from beliefstream.streams.worker.delivery import SENDING_SECONDS, Results
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.resets import Resets
from beliefstream.streams.worker.rounds import run_rounds
from beliefstream.streams.worker.sensor_health import HealthChanges, Judged, SensorHealthKeeper

log = structlog.get_logger()


class Fusion:
    """Turns batches of messages into posteriors.

    Args:
        messages: validates the batch's messages.
        store: holds the beliefs.
        unwritten: gets the changes of each batch.
        history: the number of an entity's newest moments that late observations can change.
        fencing: holds the leases to write.
        expiry: finds entities to forget.
        lineage: tracks what the beliefs were computed from.
        resets: applies resets of entities.
        sensors: keeps the health of sensors.
    """

    def __init__(
        self,
        names: TopicNames,
        application: str,
        messages: BatchValidator,
        definitions: Definitions,
        reader: DefinitionsReader,
        updater: Updater,
        store: BeliefStore,
        unwritten: Unwritten,
        fencing: Fencing,
        expiry: Expiry,
        lineage: Lineage,
        resets: Resets,
        sensors: SensorHealthKeeper,
        history: int = MOST,
    ) -> None:
        self._names, self._application = names, application
        self._messages, self._definitions, self._reader = messages, definitions, reader
        self._updater, self._store, self._unwritten = updater, store, unwritten
        self._fencing, self._expiry, self._lineage = fencing, expiry, lineage
        self._resets, self._sensors, self._most_moments = resets, sensors, history
        self.processed_offsets: dict[TP, int] = {}  # offset after the last acknowledged one
        self.is_busy = False  # whether the model is processing a batch

    @property
    def entities(self) -> int:
        """Number of beliefs this worker holds."""
        return len(self._store)

    def show_sensors(self) -> None:
        """Set the metrics of the health of sensors, before they are read."""
        self._sensors.show()

    @property
    def needs_all_delivered(self) -> bool:
        """Whether the next batch may be computed only after all others are delivered."""
        return self._fencing.is_due

    async def compute(self, events: Sequence[EventT[Any]]) -> Results:
        """Apply a batch to the beliefs, and return what to send and to store.

        Raises:
            Fenced: another worker has taken one of the partitions.
        """
        await self._reader.complete.wait()
        await self._fencing.renew()
        leases = self._fencing.leases  # taken before the first belief is read
        metrics.BATCH_SIZE.observe(len(events))
        await self._resets.fetch_ends(events)
        batch = self._messages.validate(events, is_final=False)
        if batch is None:
            # A definition may have been written just before its first message. Read the definitions again, then
            # validate the whole batch again, because other definitions may have changed too.
            await self._read_definitions()
            batch = self._messages.validate(events, is_final=True)
        assert batch is not None
        self._plan(batch)
        posteriors, judged = await self._updated(batch)
        for entity in batch.entities.values():
            batch.duplicates += entity.repeated
            self._reject_failed(entity, batch)
        health = self._sensors.add(judged, leases)
        records = [*batch.resets, *posteriors, *batch.dead_letters, *health.summaries]
        forgotten = self._expire(batch)
        results = Results(events, batch, leases, records, *self._changes(batch, health, forgotten, events))
        self._unwritten.add(results.changes)
        pass_by("computed")
        return results

    async def _updated(self, batch: Batch) -> tuple[list[Record], list[Judged]]:
        """Advance the entities in a thread; returns their posteriors, and how new observations fitted."""
        work = [entity for entity in batch.entities.values() if entity.instants]
        posteriors: list[Record] = []
        judged: list[Judged] = []
        if not work:
            return posteriors, judged
        started = time.perf_counter()
        self.is_busy = True
        try:
            posteriors = await asyncio.to_thread(
                run_rounds, work, self._updater, self._names, self._application, judged
            )
        finally:
            self.is_busy = False
        metrics.UPDATE_SECONDS.observe(time.perf_counter() - started)
        for entity in work:
            entity.limit_past(self._most_moments)
        return posteriors, judged

    async def _read_definitions(self) -> None:
        """Read definitions to their end, and retry while no broker answers."""
        async for attempt in attempts(retry_unless(), SENDING_SECONDS, first=0.2, longest=5.0):
            with attempt:
                await self._reader.catch_up()

    def acknowledged(self, events: Sequence[EventT[Any]]) -> None:
        """Record how far each partition is processed; the events of a partition are in order."""
        for event in events:
            self.processed_offsets[event.message.tp] = event.message.offset + 1

    def _reject_failed(self, entity: EntityBatch, batch: Batch) -> None:
        """Reject messages that could not be applied; those of this batch with their original bytes."""
        for message, delivered, reason, detail in entity.rejected:
            if delivered is not None:
                batch.reject(delivered.message, reason, detail)
                continue
            topic = self._names.priors if message.is_prior else self._names.observations
            source = (topic, entity.partition, message.offset)
            batch.dead_letter(source, (entity.key, message.value), reason, detail)

    def _plan(self, batch: Batch) -> None:
        """Give every entity its instants in order of event time."""
        for entity in batch.entities.values():
            model = self._definitions.model_for(entity.name)
            if model is None or not (entity.entries or entity.record.pending):
                continue
            entity.set_model(model)
            entity.plan(self._messages.read_stored, self._most_moments)

    def _expire(self, batch: Batch) -> list[tuple[int, bytes]]:
        """Advance the partitions' event time; returns partition and key of the entities to forget."""
        for partition, times in batch.times.items():
            self._expiry.note(partition, times)
        now = {partition: self._expiry.now(partition) for partition in batch.times}
        for entity in batch.entities.values():
            entity.record.last_seen = max(entity.record.last_seen, now.get(entity.partition, -math.inf))
        return self._expiry.due(batch.entities)

    def _changes(
        self,
        batch: Batch,
        health: HealthChanges,
        forgotten: Iterable[tuple[int, bytes]],
        events: Sequence[EventT[Any]],
    ) -> tuple[Mapping[int, Changes], Counter[int]]:
        """Return the changes by partition, in the order of the changelog, and the increase in the number of beliefs."""
        changes: dict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        ends = end_offsets(events)
        for partition in ends:
            key, value = self._lineage.source_entry(partition)
            changes[partition][key] = value
        for (
            partition,
            found,
        ) in health.entries.items():  # before the beliefs: see streams.state.sensor_records
            changes[partition].update(found)
        growth: Counter[int] = Counter()
        entities = list(batch.entities.values())
        encode_states(entity.record for entity in entities)
        for entity in entities:
            if entity.should_store:
                raw = changes[entity.partition][entity.key] = entity.record.encode()
                self._messages.keep(entity, raw)
                growth[entity.partition] += not entity.is_known
        for partition, key in forgotten:
            changes[partition][key] = None
            growth[partition] -= 1
        for partition, read in ends.items():
            key, value = self._lineage.progress_entry(partition, read)
            changes[partition][key] = value
        return changes, growth
