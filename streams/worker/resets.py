"""Applies resets: how a reset changes an entity's part of a batch, and the posterior that reports it.

A reset takes effect when the worker reads it among its entity's messages. Its `observations_before` makes the result
the same at every reading. Observations before that offset are skipped even if they are read later. That happens with
a backlog, and when lost beliefs are computed again. Observations after it that were read before the reset are applied
again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from faust.types import TP, EventT

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import Reset, Unusable, cloudevents
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.kafka.producing import Record, attempts, retry_unless
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.record import StoredMessage, unpack
from beliefstream.streams.worker.batch import Batch
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.entries import Entry, MessageReader

log = structlog.get_logger()
ASKING_SECONDS = 60.0
AskEnds = Callable[[Collection[TP]], Awaitable[Mapping[TP, int]]]


class Resets:
    """Applies resets to the entities of a batch.

    Args:
        lineage: provides the id of the observations topic.
        ends: asks the broker for the end offsets of partitions.
    """

    def __init__(
        self, names: TopicNames, application: str, definitions: Definitions, lineage: Lineage, ends: AskEnds
    ) -> None:
        self._names, self._application, self._definitions = names, application, definitions
        self._lineage, self._ask = lineage, ends
        self._ends: Mapping[
            TP, int
        ] = {}  # end offsets of observations, in the partitions of this batch's resets

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
        batch.resets.append(_posterior(entity, reset, model, self._names, self._application))

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


def _posterior(
    entity: EntityBatch, reset: Reset, model: EntityModel, names: TopicNames, application: str
) -> Record:
    """The posterior after a reset: the model's prior."""
    record, outcome = entity.record, model.initial(reset.time)
    metrics.POSTERIORS.labels(outcome.method).inc()
    value = model.writer.write(
        entity.name, outcome, record.sequence, record.prior_sequence, [], record.revision
    )
    headers = cloudevents.headers(
        cloudevents.POSTERIOR, f"/{application}", f"{entity.name}:{record.sequence}", reset.time
    )
    return Record(names.posteriors, entity.partition, entity.key, value, headers)
