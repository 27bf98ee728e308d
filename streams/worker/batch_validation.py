"""Validates the messages of a batch, and assigns each to its entity or to the dead letters."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from faust.types import TP, EventT

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import Prior, Reason, Reset, Unusable, is_name
from beliefstream.streams.definitions.observations import AnyObservation, PlainObservation
from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.kafka.producing import attempts, retry_unless
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.expiry import EventClock
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.record import BeliefRecord, RecordCache, StoredMessage, unpack
from beliefstream.streams.state.stores import BeliefStore
from beliefstream.streams.worker.batch import Batch
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry, MessageReader
from beliefstream.streams.worker.misplaced_records import Placement
from beliefstream.streams.worker.rounds import posterior
from beliefstream.streams.worker.validation import ReferenceClock, Validator

log = structlog.get_logger()
ASKING_SECONDS = 60.0
UNKNOWN = (Reason.unknown_sensor, Reason.unknown_entity)
MOST_VERBATIM_BYTES = 1024  # longer messages are stored without the fields that are not needed
BY_BROKER = 1  # timestamp type of records stamped by the broker
NO_LIMIT = ReferenceClock(math.inf)

AskEnds = Callable[[Collection[TP]], Awaitable[Mapping[TP, int]]]


class Resets:
    """Applies resets to the entities of a batch.

    A reset takes effect when the worker reads it among its entity's messages. Its `observations_before` makes the
    result the same at every reading. Observations before that offset are skipped even if they are read later. That
    happens with a backlog, and when lost beliefs are computed again. Observations after it that were read before the
    reset are applied again.

    Args:
        lineage: provides the id of the observations topic.
        ends: asks the broker for the end offsets of partitions.
    """

    def __init__(
        self, names: TopicNames, application: str, definitions: Definitions, lineage: Lineage, ends: AskEnds
    ) -> None:
        self._names, self._application, self._definitions = names, application, definitions
        self._lineage, self._ask = lineage, ends
        self._ends: Mapping[TP, int] = {}  # of observations, in the partitions of this batch's resets

    async def fetch_ends(self, events: Sequence[EventT[Any]]) -> None:
        """Ask for the end offsets of the observation logs that a batch's resets may refer to.

        Raises:
            KafkaError, OSError: no broker has answered for a minute.
        """
        stated = [event.message for event in events if event.message.topic == self._names.priors]
        partitions = {message.partition for message in stated if b'"reset"' in (message.value or b"")}
        self._ends = {}
        if not partitions:
            return
        places = [TP(self._names.observations, partition) for partition in partitions]
        async for attempt in attempts(retry_unless(), ASKING_SECONDS, first=0.2, longest=5.0):
            with attempt:
                self._ends = {TP(*place): end for place, end in (await self._ask(places)).items()}

    def apply(self, entity: EntityBatch, reset: Reset, batch: Batch, read: MessageReader) -> None:
        """Forget the entity, unless a reset with this id has been applied before.

        Args:
            read: returns the event of a stored message and its id, or raises Unusable.
        """
        if reset.id is not None and reset.id in entity.record.reset_ids:
            log.info("a reset was already applied", entity=entity.name, id=reset.id)
            return
        batch.forgotten += forget(entity, reset, self._before(reset, entity.partition), read)
        model = self._definitions.model_for(entity.name)
        assert model is not None  # otherwise the message would have been refused
        outcome = model.initial(reset.time)
        metrics.POSTERIORS.labels(outcome.method).inc()
        topic, source = self._names.posteriors, f"/{self._application}"
        batch.resets.append(posterior(entity, model, outcome, [], topic, source))

    def _before(self, reset: Reset, partition: int) -> int | None:
        """The offset before which observations are forgotten; None to forget those read so far."""
        named = reset.observations_before
        if named is None or named.partition != partition:
            return None
        if named.topic_id != self._lineage.observations_id(partition):
            return None  # an offset in a log that no longer exists
        # an offset beyond the end of the log would exclude future messages
        return min(named.offset, self._ends.get(TP(self._names.observations, partition), 0))


def forget(entity: EntityBatch, reset: Reset, before: int | None, read: MessageReader) -> int:
    """Apply a reset, and return how many observations of this batch it discards.

    Args:
        before: observations before this offset are forgotten; None to forget those read so far.
        read: as in `Resets.apply`.
    """
    stored = [] if before is None else _stored_observations(entity, read)
    observations = [*stored, *(entry for entry in entity.entries if not entry.message.is_prior)]
    entity.entries = [
        entry for entry in observations if before is not None and entry.message.offset >= before
    ]
    entity.record.reset(reset.id, before or 0)
    applied_times = [entry.event.time for entry in entity.entries if entry.is_applied]
    if applied_times:  # posteriors of these times have been sent: the newest is sent again
        entity.record.last_emitted = max(applied_times)
    entity.revised = bool(applied_times)
    log.info(
        "an entity is forgotten",
        entity=entity.name,
        partition=entity.partition,
        offset=entity.record.prior_offset,
        before=before,
        applied_again=len(applied_times),
    )
    return sum(not entry.is_applied for entry in observations) - sum(
        not entry.is_applied for entry in entity.entries
    )


def _stored_observations(
    entity: EntityBatch, read: Callable[[bytes, StoredMessage], tuple[Event, str]]
) -> list[Entry]:
    """The observations that the record still stores."""
    messages = [message for moment in entity.record.past.moments for message in unpack(moment.content)]
    found = []
    for message in messages:
        if message.is_prior:
            continue
        try:
            event, id = read(entity.key, message)
        except Unusable:  # its model or its sensor has changed
            continue
        found.append(Entry(event, message, is_applied=True, id=id))
    return found


class BatchValidator:
    """Validates batches of messages.

    Args:
        store: holds the beliefs.
        placement: finds records in the wrong partition.
        resets: applies resets of entities.
    """

    def __init__(
        self,
        settings: Settings,
        definitions: Definitions,
        store: BeliefStore,
        placement: Placement,
        resets: Resets,
    ) -> None:
        self._names, self._definitions = settings.names, definitions
        self._validator = Validator(
            definitions, settings.maximum_message_bytes, settings.future_tolerance, settings.event_tolerance
        )
        self._store, self._placement, self._resets = store, placement, resets
        # of times that are not live, by partition; None where they have no limit
        self._clocks: dict[int, EventClock] | None = {} if settings.event_tolerance < math.inf else None
        self._records = RecordCache()

    def validate(self, events: Sequence[EventT[Any]], is_final: bool) -> Batch | None:
        """Sort the events into entities and dead letters.

        Returns None if a message names an unknown sensor or entity, unless `is_final` is set. The same holds for a new
        entity without its own model: the model for all must not replace one that is not read yet.
        """
        batch, now = Batch(self._names), ReferenceClock(time.time())
        clocks = self._clocks  # copied, because the batch may have to be validated again
        if clocks is not None:
            clocks = {partition: clock.copy() for partition, clock in clocks.items()}
        priors = self._names.priors
        for event in events:
            message = event.message
            is_prior = message.topic == priors
            batch.note(message)
            entity = batch.entities.get((message.partition, message.key or b""))
            # an entity's key is looked at once, but every record in a wrong partition is noted
            if entity is None or batch.misplaced:
                # an invalid key must not reach the store, which has internal keys too
                key = message.key if is_name(message.key) else None
                if key is not None and self._is_refused(message, key, batch):
                    continue
                entity = self._entity(key, message.partition, batch) if key is not None else None
            if entity is not None:
                if not (is_final or entity.is_known or entity.name in self._definitions.models):
                    return None
                if not entity.begin(message.offset, is_prior):
                    batch.duplicates += not is_prior
                    continue
                if not is_prior and message.offset < entity.record.forgotten_before:
                    batch.forgotten += 1
                    continue
            try:
                entry = self._read(message, is_prior, _reference(message, now, clocks, entity))
            except Unusable as unusable:
                if unusable.reason in UNKNOWN and not is_final:
                    return None
                batch.reject(message, unusable.reason, unusable.detail)
                continue
            assert entity is not None
            if isinstance(entry, Reset):
                self._resets.apply(entity, entry, batch, self.read_stored)
                continue
            entity.entries.append(entry)
            if not is_prior:
                batch.times[message.partition].append(entry.event.time)
        self._clocks = clocks
        return batch

    def keep(self, entity: EntityBatch, raw: bytes) -> None:
        """Keep the entity's record, whose bytes `raw` are stored now, for its next batch."""
        self._records.put(entity.partition, entity.key, raw, entity.record)

    def _is_refused(self, message: Any, key: bytes, batch: Batch) -> bool:
        """Note a record in the wrong partition, and return whether it becomes a dead letter."""
        found = self._placement.check(message.topic, key, message.partition, message.offset)
        if found is None:
            return False
        batch.misplaced.append(found)
        if self._placement.refuse:
            batch.reject(message, Reason.wrong_partition, found.detail)
        return self._placement.refuse

    def _read(self, message: Any, is_prior: bool, reference: ReferenceClock) -> Entry | Reset:
        content, event = self._parse(message.key, message.value, is_prior, reference)
        if isinstance(content, Reset):
            return content
        assert event is not None
        value = message.value or b""
        if len(value) > MOST_VERBATIM_BYTES and not isinstance(content, PlainObservation):
            value = content.to_json()
        stored = StoredMessage(is_prior, message.offset, value)
        if isinstance(content, Prior):
            return Entry(event, stored, "", message)
        name = content.id or f"{message.partition}:{message.offset}"
        return Entry(event, stored, name, message, id=content.id or "", sensor=content.sensor)

    def read_stored(self, key: bytes, stored: StoredMessage) -> tuple[Event, str]:
        """Return the event and id of a stored message; raises Unusable if it no longer fits the definitions."""
        content, event = self._parse(key, stored.value, stored.is_prior, NO_LIMIT)
        assert event is not None
        return event, "" if isinstance(content, (Prior, Reset)) else content.id or ""

    def _parse(
        self, key: bytes | None, value: bytes | None, is_prior: bool, reference: ReferenceClock
    ) -> tuple[AnyObservation | Prior | Reset, Event | None]:
        try:
            read = self._validator.prior_or_reset if is_prior else self._validator.observation
            return read(key, value, reference)
        except Unusable:
            raise
        except (ArithmeticError, ValueError) as error:
            # An unexpected numerical error costs one dead letter. Otherwise the worker would stop at each restart.
            raise Unusable(Reason.numerical, f"message: {error}") from error

    def _entity(self, key: bytes, partition: int, batch: Batch) -> EntityBatch:
        place = (partition, key)
        entity = batch.entities.get(place)
        if entity is None:
            raw = self._store.read(*place)
            try:
                record = self._records.take(*place, raw) if raw is not None else BeliefRecord()
            except ValueError as fault:
                fault.add_note(f"the belief of {key!r}")
                raise
            entity = EntityBatch(key, partition, record, is_known=raw is not None)
            batch.entities[place] = entity
        return entity


def _reference(
    message: Any, now: ReferenceClock, clocks: dict[int, EventClock] | None, entity: EntityBatch | None
) -> ReferenceClock:
    """The reference for a message's time: when the broker stored it, or else the worker's clock, `now`."""
    is_stored = message.timestamp_type == BY_BROKER and message.timestamp is not None
    if not is_stored and clocks is None:
        return now
    clock = clocks.setdefault(message.partition, EventClock()) if clocks is not None else None
    known = entity.record.last_seen if entity is not None else -math.inf
    return ReferenceClock(message.timestamp if is_stored else now.now, is_stored, clock, known)
