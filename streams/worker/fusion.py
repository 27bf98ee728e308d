"""Processes one batch of messages: validate, group, predict and update, send, store, acknowledge.

The order of the last steps makes a crash safe. Posteriors and dead letters become durable first. The changelog of the
beliefs follows, then the local store, then the source offsets. After a crash a worker finds one of two states. Either
it has the old belief, and its messages are delivered again. Or it has the new belief, which skips redelivered messages
by their offsets. So no belief lacks its posteriors.

All writes use the leases held when the batch began. They fail once another worker has taken the partitions
(`streams.state.fencing`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from faust.types import TP, EventT

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.definitions.reader import DefinitionsReader
from beliefstream.streams.kafka.faust.consumer import SafeConsumer
from beliefstream.streams.kafka.producing import Lease, Record, attempts, deliver, pack_batches, retry_unless
from beliefstream.streams.kafka.reachability import require, topic_states
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.expiry import Expiry
from beliefstream.streams.state.fencing import Fenced, Fencing
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.record import encode_states
from beliefstream.streams.state.stores import NOT_KNOWN, BeliefStore
from beliefstream.streams.worker.batch import Batch, by_partition
from beliefstream.streams.worker.batch_validation import BatchValidator, Resets
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.misplaced_records import Placement
from beliefstream.streams.worker.rounds import Fitted, run_rounds
from beliefstream.streams.worker.sensor_health import SensorHealthKeeper

log = structlog.get_logger()
SENDING_SECONDS = 60  # seconds without a broker after which the worker gives up and is restarted

Checkpoint = Literal["computed", "sending posteriors", "posteriors sent", "sending beliefs", "beliefs sent"]
"""In their order:

- `computed`: posteriors and dead letters are computed, and none is sent.
- `sending posteriors`: posteriors and dead letters are passed to the producer.
- `posteriors sent`: they are durable, the beliefs are not.
- `sending beliefs`: the beliefs' records are passed to the producer.
- `beliefs sent`: everything is durable, and no offset is committed.

A batch passes both `sending` checkpoints at each attempt to send, and neither if it has nothing to send.
"""
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
_watchers: list[Callable[[Checkpoint], None]] = []


def watch(watcher: Callable[[Checkpoint], None]) -> None:
    """Have the watcher called at every checkpoint of this process, in the event loop."""
    _watchers.append(watcher)


def pass_by(checkpoint: Checkpoint) -> None:
    """Report that the batch has reached this checkpoint."""
    for watcher in _watchers:
        watcher(checkpoint)


class Fusion:
    """Turns batches of messages into posteriors.

    Args:
        reader: of the definitions in force.
        store: holds the beliefs.
        producer: returns the running aiokafka producer.
        consumer: returns the worker's consumer.

    Attributes:
        is_busy: whether the model is processing a batch.
    """

    def __init__(
        self,
        settings: Settings,
        reader: DefinitionsReader,
        updater: Updater,
        store: BeliefStore,
        producer: Callable[[], Awaitable[AIOKafkaProducer]],
        consumer: Callable[[], SafeConsumer],
    ) -> None:
        names, application, definitions = settings.names, settings.application, reader.definitions
        self._names, self._application, self._most_moments = names, application, settings.history
        self._reader, self._definitions, self._updater = reader, definitions, updater
        self._store, self._producer, self._consumer = store, producer, consumer
        self._fencing = Fencing(application, names.beliefs_changelog, producer)
        self._lineage = Lineage(names, store, self._fencing, producer, self._committed)
        self._expiry = Expiry(names, definitions, store, self._committed)
        self._sensors = SensorHealthKeeper(
            names, application, definitions, store, self._committed, settings.health_window
        )
        self._placement = Placement(names, settings.partitions, settings.refuse_misplaced)
        self._resets = Resets(names, application, definitions, self._lineage, self._ends)
        self._messages = BatchValidator(settings, definitions, store, self._placement, self._resets)
        self._processed: dict[TP, int] = {}  # offset after the last acknowledged one
        self.is_busy = False

    def _committed(self, place: TP) -> int:
        return self._consumer().committed.get(place, 0)

    async def _ends(self, places: Collection[TP]) -> Mapping[TP, int]:
        found: Mapping[TP, int] = await self._consumer().highwaters(*places)
        return found

    async def take(self, partitions: Collection[int]) -> None:
        """Become the only writer of these partitions, before their changelog is read; raises as `Fencing.take`."""
        # without its changelog a producer would ask for it again and again, and say nothing for a minute
        topics = self._names.observations, self._names.priors, self._names.beliefs_changelog
        require(topics, await topic_states((await self._producer()).client, topics))
        await self._fencing.take(partitions)

    async def examine(self, consumer: SafeConsumer, partitions: Collection[int]) -> bool:
        """Compare restored beliefs with their source before the worker reads on, as `Lineage.examine`."""
        self._processed.clear()  # reading restarts at the committed offsets
        return await self._lineage.examine(consumer, partitions)

    def processed(self, place: TP) -> int:
        """The offset before which all messages of a source partition are processed."""
        return max(self._processed.get(place, 0), self._committed(place))

    def show(self) -> None:
        """Set the metrics of beliefs and of the health of sensors, before they are read."""
        metrics.ENTITIES.set(len(self._store))
        self._sensors.show()

    async def process(self, events: Sequence[EventT[Any]], ends: Mapping[TP, int]) -> None:
        """Apply a batch, and return when all its results are durable.

        Args:
            events: in order for each entity.
            ends: for each of their partitions the offset before which all messages are processed after this batch.

        Raises:
            Fenced: another worker has taken one of the partitions; no belief of it has been changed.
        """
        await self._reader.complete.wait()
        await self._fencing.renew()
        leases = self._fencing.leases  # taken before the first belief is read
        metrics.BATCH_SIZE.observe(len(events))
        await self._resets.fetch_ends(events)
        batch = self._messages.validate(events, is_final=came_before(events, self._reader.known_before))
        if batch is None:
            # A definition may have been written just before its first message. Read the definitions again, then
            # validate the whole batch again, because other definitions may have changed too.
            await self._read_definitions()
            batch = self._messages.validate(events, is_final=True)
        assert batch is not None
        self._plan(batch)
        work = [entity for entity in batch.entities.values() if entity.instants]
        posteriors: list[Record] = []
        fitted = Fitted()
        if work:
            started = time.perf_counter()
            self.is_busy = True
            try:
                posteriors = await asyncio.to_thread(
                    run_rounds, work, self._updater, self._names, self._application, fitted
                )
            finally:
                self.is_busy = False
            metrics.UPDATE_SECONDS.observe(time.perf_counter() - started)
            for entity in work:
                entity.limit_past(self._most_moments)
        for entity in batch.entities.values():
            batch.duplicates += entity.repeated
            self._reject_failed(entity, batch)
        # nothing is sent before all messages are known to be of these topics
        await self._consumer().topics_checked()
        health = self._sensors.add(fitted, leases)
        pass_by("computed")
        results = [*batch.resets, *posteriors, *batch.dead_letters, *health.summaries]
        forgotten = self._expire(batch)
        # encoding takes about as long as the broker's answer; a belief is stored only after its posteriors
        beliefs, _ = await asyncio.gather(
            asyncio.to_thread(_encoded, list(batch.entities.values())),
            self._send(results, leases, "sending posteriors"),
        )
        read, held = by_partition(ends), by_partition(batch.ends)
        await self._store_beliefs(beliefs, health.entries, forgotten, read, held, leases)
        pass_by("beliefs sent")
        batch.measure(self._definitions.sensors)
        self._placement.note(batch.misplaced)

    async def _read_definitions(self) -> None:
        """Read definitions to their end, and retry while no broker answers."""
        async for attempt in attempts(retry_unless(), SENDING_SECONDS, first=0.2, longest=5.0):
            with attempt:
                await self._reader.catch_up()

    def acknowledged(self, events: Sequence[EventT[Any]]) -> None:
        """Record how far each partition is processed; the events of a partition are in order."""
        for event in events:
            self._processed[event.message.tp] = event.message.offset + 1

    def _reject_failed(self, entity: EntityBatch, batch: Batch) -> None:
        """Reject messages that could not be applied; those of this batch with their original bytes."""
        for message, delivered, reason, detail in entity.rejected:
            if delivered is not None:
                batch.reject(delivered, reason, detail)
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

    async def _send(
        self, records: Iterable[Record], leases: Mapping[int, Lease], checkpoint: Checkpoint
    ) -> dict[TopicPartition, int]:
        """Send all records, and retry while no broker answers; passes `checkpoint` at each attempt."""
        records = list(records)
        if not records:
            return {}
        if strange := {record.partition for record in records} - leases.keys():
            raise Fenced(f"this worker does not own the partitions {sorted(strange)}")
        producer = await self._producer()
        try:
            batches = pack_batches(producer, records, leases)
            # without a timeout, a batch that is never acknowledged would block for ever
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
        beliefs: Sequence[tuple[EntityBatch, bytes]],
        health: Mapping[int, Mapping[bytes, bytes | None]],
        forgotten: Iterable[tuple[int, bytes]],
        read: Mapping[int, Mapping[str, int]],
        held: Mapping[int, Mapping[str, int]],
        leases: Mapping[int, Lease],
    ) -> None:
        """Write the changelog, then the store.

        By partition and topic, all messages before `read` are processed, and none from `held` on.
        """
        changes: dict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        for partition in held:
            key, value = self._lineage.source_entry(partition)
            changes[partition][key] = value
        for partition, found in health.items():  # before the beliefs: see streams.state.sensor_records
            changes[partition].update(found)
        growth: Counter[int] = Counter()
        for entity, raw in beliefs:
            changes[entity.partition][entity.key] = raw
            growth[entity.partition] += not entity.is_known
        for partition, key in forgotten:
            changes[partition][key] = None
            growth[partition] -= 1
        for partition, ends in held.items():
            key, value = self._lineage.progress_entry(partition, read[partition], ends)
            changes[partition][key] = value
        changelog = self._names.beliefs_changelog
        records = [
            Record(changelog, partition, key, value)
            for partition, made in changes.items()
            for key, value in made.items()
        ]
        pass_by("posteriors sent")
        offsets = await self._send(records, leases, "sending beliefs")
        for partition, made in changes.items():
            last = offsets.get(TopicPartition(changelog, partition), NOT_KNOWN)
            self._store.write_own(partition, made, last, growth[partition])
        for entity, raw in beliefs:
            self._messages.keep(entity, raw)


def came_before(events: Iterable[EventT[Any]], time: float) -> bool:
    """Whether the consumer received all of these messages before `time`, monotonic."""
    return all((event.message.time_in or math.inf) < time for event in events)


def _encoded(entities: Sequence[EntityBatch]) -> list[tuple[EntityBatch, bytes]]:
    """The records to store, as bytes."""
    encode_states(entity.record for entity in entities)
    return [(entity, entity.record.encode()) for entity in entities if entity.should_store]
