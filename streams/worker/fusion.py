"""Processes one batch of messages: validate, group, predict and update, send, store, acknowledge.

The order of the last steps is what makes a crash safe. Posteriors and dead letters are durable first, then the beliefs'
changelog, then the local table, then the source offsets. A worker killed at any point finds one of two states: the old
belief with its messages still to come, or the new belief. The new belief skips redelivered messages by their offsets.
So no belief lacks its posteriors. All writes use the leases held when the batch began, and fail once another worker has
taken them (`streams.state.fencing`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from faust.types import TP, EventT

from beliefstream.inference.tracking.events import Event
from beliefstream.inference.tracking.timeline import MOST
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Observation, Prior, Reason, Reset, Unusable, is_name
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.producing import Lease, Record, attempts, deliver, pack_batches, retry_unless
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.event_clock import EventClocks
from beliefstream.streams.state.expiry import Expiry
from beliefstream.streams.state.fencing import Fenced, Fencing
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.state.stores import NOT_KNOWN, BeliefStore
from beliefstream.streams.worker.batch import Batch, end_offsets
from beliefstream.streams.worker.checkpoints import Checkpoint, pass_by
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.misplaced_records import Placement
from beliefstream.streams.worker.resets import Resets
from beliefstream.streams.worker.rounds import run_rounds
from beliefstream.streams.worker.validation import ReferenceClock, Validator

log = structlog.get_logger()
UNKNOWN = (Reason.unknown_sensor, Reason.unknown_entity)
MOST_VERBATIM_BYTES = 1024  # bytes; longer messages are stored without the fields that are not needed
BY_BROKER = 1  # timestamp type of records stamped by the broker
NO_LIMIT = ReferenceClock(math.inf)
SENDING_SECONDS = 60  # how long a broker may be away before the worker gives up and is restarted


class Fusion:
    """Turns batches into posteriors.

    Args:
        store: holds the beliefs.
        history: moments of an entity that late observations can change.
        producer: returns the running aiokafka producer.
        fencing: holds the leases to write.
        expiry: finds entities to forget.
        lineage: tracks what the beliefs were computed from.
        placement: finds records in the wrong partition.
        resets: apply resets of entities.
        event_time: whether to check times that are not live against their partition's event time.
    """

    def __init__(
        self,
        names: TopicNames,
        application: str,
        validator: Validator,
        definitions: Definitions,
        reader: DefinitionsReader,
        updater: Updater,
        store: BeliefStore,
        producer: Any,
        fencing: Fencing,
        expiry: Expiry,
        lineage: Lineage,
        placement: Placement,
        resets: Resets,
        history: int = MOST,
        event_time: bool = False,
    ) -> None:
        self._names, self._application = names, application
        self._validator, self._definitions, self._reader = validator, definitions, reader
        self._updater, self._store, self._producer = updater, store, producer
        self._fencing, self._expiry, self._lineage = fencing, expiry, lineage
        self._placement = placement
        self._resets, self._most_moments = resets, history
        self._clocks = EventClocks() if event_time else None
        self.processed_offsets: dict[TP, int] = {}  # offset after the last acknowledged one
        self.is_busy = False  # whether the model is processing a batch

    @property
    def entities(self) -> int:
        """Number of beliefs this worker holds."""
        return len(self._store)

    async def process(self, events: Sequence[EventT[Any]]) -> None:
        """Apply a batch; returns when all its results are durable.

        Raises:
            Fenced: another worker has taken one of the partitions; no belief of it has been changed.
        """
        await self._reader.complete.wait()
        await self._fencing.renew()
        leases = self._fencing.leases  # taken before the first belief is read
        metrics.BATCH_SIZE.observe(len(events))
        await self._resets.fetch_ends(events)
        batch = self._validate(events, is_final=False)
        if batch is None:
            # a definition may have been written just before its first message: read definitions again, then validate
            # the whole batch again, because other definitions may have changed too
            await self._read_definitions()
            batch = self._validate(events, is_final=True)
        assert batch is not None
        self._plan(batch)
        work = [entity for entity in batch.entities.values() if entity.instants]
        posteriors: list[Record] = []
        if work:
            started = time.perf_counter()
            self.is_busy = True
            try:
                posteriors = await asyncio.to_thread(
                    run_rounds, work, self._updater, self._names, self._application
                )
            finally:
                self.is_busy = False
            metrics.UPDATE_SECONDS.observe(time.perf_counter() - started)
            for entity in work:
                entity.limit_past(self._most_moments)
        for entity in batch.entities.values():
            batch.duplicates += entity.repeated
            self._reject_failed(entity, batch)
        pass_by("computed")
        await self._send([*batch.resets, *posteriors, *batch.dead_letters], leases, "flying")
        await self._store_beliefs(batch.entities.values(), self._expire(batch), end_offsets(events), leases)
        pass_by("kept")
        batch.measure(events)
        self._placement.note(batch.misplaced)

    async def _read_definitions(self) -> None:
        """Read definitions to their end, and retry while the broker is away."""
        async for attempt in attempts(retry_unless(), SENDING_SECONDS, first=0.2, longest=5.0):
            with attempt:
                await self._reader.catch_up()

    def acknowledged(self, events: Sequence[EventT[Any]]) -> None:
        """Record how far each partition is processed; its events are in order."""
        for event in events:
            self.processed_offsets[event.message.tp] = event.message.offset + 1

    def _validate(self, events: Sequence[EventT[Any]], is_final: bool) -> Batch | None:
        """Sort the events into entities and dead letters.

        Returns None if one names an unknown sensor or entity, unless `is_final` is set; also if a new entity has no
        model of its own: the model for all must not take the place of one that is not read yet.
        """
        batch, now = Batch(self._names), time.time()
        clocks = self._clocks.copy() if self._clocks is not None else None
        for event in events:
            message = event.message
            is_prior = message.topic == self._names.priors
            # an invalid key must not reach the store, which has internal keys too
            key = message.key if is_name(message.key) else None
            if key is not None and self._is_refused(message, key, batch):
                continue
            entity = self._entity(key, event, batch) if key is not None else None
            if entity is not None:
                if not (is_final or entity.is_known or self._definitions.has_own_model(entity.name)):
                    return None
                if not entity.is_new(message.offset, is_prior):
                    batch.duplicates += not is_prior
                    continue
                entity.mark_processed(message.offset, is_prior)
                if not is_prior and message.offset < entity.record.forgotten_before:
                    batch.forgotten += 1
                    continue
            try:
                entry = self._read(event, is_prior, _reference(event.message, now, clocks, entity))
            except Unusable as unusable:
                if unusable.reason in UNKNOWN and not is_final:
                    return None
                batch.reject(message, unusable.reason, unusable.detail)
                continue
            assert entity is not None
            if isinstance(entry, Reset):
                self._resets.apply(entity, entry, batch, self._read_stored)
                continue
            entity.accept(entry)
            if not is_prior:
                batch.times.setdefault(message.partition, []).append(entry.event.time)
        self._clocks = clocks
        return batch

    def _is_refused(self, message: Any, key: bytes, batch: Batch) -> bool:
        """Whether the record is in the wrong partition and becomes a dead letter; a misplaced one is always noted."""
        found = self._placement.check(message.topic, key, message.partition, message.offset)
        if found is None:
            return False
        batch.misplaced.append(found)
        if self._placement.refuse:
            batch.reject(message, Reason.wrong_partition, found.detail)
        return self._placement.refuse

    def _read(self, delivered: EventT[Any], is_prior: bool, reference: ReferenceClock) -> Entry | Reset:
        message = delivered.message
        content, event = self._parse(message.key, message.value, is_prior, reference)
        if isinstance(content, Reset):
            return content
        assert event is not None
        value = message.value or b""
        stored = StoredMessage(
            is_prior, message.offset, content.to_json() if len(value) > MOST_VERBATIM_BYTES else value
        )
        if isinstance(content, Prior):
            return Entry(event, stored, "", delivered)
        name = content.id or f"{message.partition}:{message.offset}"
        return Entry(event, stored, name, delivered, id=content.id or "", sensor=content.sensor)

    def _read_stored(self, key: bytes, stored: StoredMessage) -> tuple[Event, str]:
        """Return the event and id of a stored message; raises Unusable if it no longer fits the definitions."""
        content, event = self._parse(key, stored.value, stored.is_prior, NO_LIMIT)
        assert event is not None
        return event, (content.id if isinstance(content, Observation) else None) or ""

    def _parse(
        self, key: bytes | None, value: bytes | None, is_prior: bool, reference: ReferenceClock
    ) -> tuple[Observation | Prior | Reset, Event | None]:
        try:
            read = self._validator.prior_or_reset if is_prior else self._validator.observation
            return read(key, value, reference)
        except Unusable:
            raise
        except (ArithmeticError, ValueError) as error:
            # an unforeseen numerical error costs one dead letter, not a worker that stops at each restart
            raise Unusable(Reason.numerical, f"message: {error}") from error

    def _entity(self, key: bytes, event: EventT[Any], batch: Batch) -> EntityBatch:
        place = (event.message.partition, key)
        entity = batch.entities.get(place)
        if entity is None:
            raw = self._store.read(*place)
            try:
                record = BeliefRecord.decode(raw) if raw is not None else BeliefRecord()
            except ValueError as fault:
                fault.add_note(f"the belief of {key!r}")
                raise
            entity = EntityBatch(key, event.message.partition, record, is_known=raw is not None)
            batch.entities[place] = entity
        return entity

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
            entity.plan(self._read_stored, self._most_moments)

    async def _send(
        self, records: Iterable[Record], leases: Mapping[int, Lease], checkpoint: Checkpoint
    ) -> dict[TopicPartition, int]:
        """Send all records, and retry while the broker is away; passes `checkpoint` at each attempt."""
        records = list(records)
        if not records:
            return {}
        if strange := {record.partition for record in records} - leases.keys():
            raise Fenced(f"this worker does not own the partitions {sorted(strange)}")
        producer: AIOKafkaProducer = await self._producer()
        try:
            batches = pack_batches(producer, records, leases)
            # without a timeout, a batch that is never answered would block for ever
            async with asyncio.timeout(2 * SENDING_SECONDS):
                may_retry = retry_unless(ProducerFenced)
                async for attempt in attempts(may_retry, SENDING_SECONDS, first=0.2, longest=5.0):
                    with attempt:
                        pass_by(checkpoint)
                        return await deliver(producer, batches)
        except ProducerFenced as error:
            raise Fenced("another worker has taken over a partition of this batch") from error
        raise AssertionError("unreachable")

    def _expire(self, batch: Batch) -> list[tuple[int, bytes]]:
        """Advance the partitions' event time; returns partition and key of the entities to forget."""
        for partition, times in batch.times.items():
            self._expiry.note(partition, times)
        now = {partition: self._expiry.now(partition) for partition in batch.times}
        for entity in batch.entities.values():
            entity.record.last_seen = max(entity.record.last_seen, now.get(entity.partition, -math.inf))
        return self._expiry.due(batch.entities)

    async def _store_beliefs(
        self,
        entities: Iterable[EntityBatch],
        forgotten: Iterable[tuple[int, bytes]],
        end_offsets: Mapping[int, Mapping[str, int]],
        leases: Mapping[int, Lease],
    ) -> None:
        """Write the changelog, then the store; `end_offsets` are those of the batch, by partition and topic."""
        changes: dict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        for partition in end_offsets:
            key, value = self._lineage.source_entry(partition)
            changes[partition][key] = value
        growth: Counter[int] = Counter()
        for entity in entities:
            if entity.should_store:
                changes[entity.partition][entity.key] = entity.record.encode()
                growth[entity.partition] += not entity.is_known
        for partition, key in forgotten:
            changes[partition][key] = None
            growth[partition] -= 1
        for partition, ends in end_offsets.items():
            key, value = self._lineage.progress_entry(partition, ends)
            changes[partition][key] = value
        changelog = self._names.beliefs_changelog
        records = [
            Record(changelog, partition, key, value)
            for partition, made in changes.items()
            for key, value in made.items()
        ]
        pass_by("between")
        offsets = await self._send(records, leases, "landing")
        for partition, made in changes.items():
            last = offsets.get(TopicPartition(changelog, partition), NOT_KNOWN)
            self._store.write_own(partition, made, last, growth[partition])


def _reference(
    message: Any, now: float, clocks: EventClocks | None, entity: EntityBatch | None
) -> ReferenceClock:
    """Reference for a message's time: when the broker stored it, or else the worker's clock."""
    is_stored = message.timestamp_type == BY_BROKER and message.timestamp is not None
    clock = clocks.of(message.partition) if clocks is not None else None
    known = entity.record.last_seen if entity is not None else -math.inf
    return ReferenceClock(message.timestamp if is_stored else now, is_stored, clock, known)
