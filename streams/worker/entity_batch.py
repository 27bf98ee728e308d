"""One entity's part of a batch: its messages, the belief they start from, and changes to its record.

A late message is applied at its own time, and so is one at a time already applied. The entity goes back to the last
belief before that time. Later messages are read again with the current definitions, and applied again.

A posterior is emitted for every new time with an observation or a stated prior. Controls alone emit none. If the past
of an emitted posterior changes, the newest such posterior is emitted again. It has the next revision, and names the new
messages.

An observation with an id is applied once, even if it is sent several times. A second one with the same time and id is
dropped while that time can still change. After that it is late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec.structs import replace

from beliefstream.inference.sensors.persistent import MOST_ERRORS, PersistentError
from beliefstream.inference.tracking.events import Belief, Earlier, Event, Instant, Step, instants
from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.inference.tracking.health.windows import entity_bit
from beliefstream.inference.tracking.recovery.history import MOST_INSTANTS, number_of
from beliefstream.inference.tracking.timeline import Moment
from beliefstream.schemas import Reason, Unusable
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.state.record import BeliefRecord, StoredMessage, pack, unpack

log = structlog.get_logger()
NOT_FINITE = "update: the posterior is not finite"
MEBIBYTE = 2**20
# These limits bound the work of a batch and the size of a record. A record with its states (at most 3 MiB) must fit
# into a changelog message (`streams.kafka.topics.MESSAGE_BYTES`).
PAST_BYTES = 4 * MEBIBYTE  # all messages of an entity that may have to be applied again
MOST_OF_ONE_TIME, BYTES_OF_ONE_TIME = 512, 2 * MEBIBYTE  # messages with the same time, applied in one update
MOST_WAITING, WAITING_BYTES = 1000, 4 * MEBIBYTE  # priors that wait for their time
MessageReader = Callable[[bytes, StoredMessage], tuple[Event, str]]
"""Returns the event of a stored message and the id from its sender; the id is empty for none."""


class Entry(msgspec.Struct, eq=False):
    """A message to be applied to the belief.

    Attributes:
        name: its name in a posterior's `applied`; empty for a prior. A control's name is not used, because a control
            alone has no posterior.
        delivered: the message as Faust delivered it; None for a message stored from earlier batches.
        is_applied: whether the belief already contains it.
        id: the id from its sender; empty for none.
        sensor: the sensor that reported it; empty for a prior.
    """

    event: Event
    message: StoredMessage
    name: str = ""
    delivered: Any = None
    is_applied: bool = False
    id: str = ""
    sensor: str = ""

    @property
    def received(self) -> float | None:
        """When the consumer got it, monotonic; None if it was not received so."""
        return None if self.delivered is None else self.delivered.time_in


class Rejected(NamedTuple):
    """A message to send to the dead letters."""

    message: StoredMessage
    delivered: Any
    reason: Reason
    detail: str


@dataclass
class _OfOneTime:
    """Admitted messages of one time: their number, bytes, and errors that last."""

    count: int = 0
    size: int = 0
    errors: frozenset[PersistentError] = frozenset()

    def admit(self, entry: Entry) -> str | None:
        """Add a message, or return the detail why it is beyond a limit; one that is applied never is."""
        time, length, errors = entry.event.time, len(entry.message.value), self.errors
        if entry.event.reading is not None and entry.event.reading.sensor.has_errors:
            errors = errors.union(entry.event.reading.sensor.all_errors)
        if not entry.is_applied:
            if self.count >= MOST_OF_ONE_TIME or self.size + length > BYTES_OF_ONE_TIME:
                return (
                    f"time: {self.count} messages ({self.size} bytes) already have the time {time}; one update takes "
                    f"at most {MOST_OF_ONE_TIME} messages and {BYTES_OF_ONE_TIME} bytes"
                )
            if len(errors) > MOST_ERRORS:
                new = ", ".join(sorted(error.name for error in errors - self.errors))
                return (
                    f"sensor: sensors at the time {time} already have {len(self.errors)} errors that last; one update "
                    f"takes at most {MOST_ERRORS}, and this one adds {new}"
                )
        self.count, self.size, self.errors = self.count + 1, self.size + length, errors
        return None


def admitted(entries: Sequence[Entry]) -> tuple[list[Entry], int, list[tuple[Entry, str]]]:
    """Return entries to apply, how many others repeat one of them, and those beyond a limit, each with the detail.

    `entries` holds all messages of their times, the earlier ones first.
    """
    seen: set[tuple[float, str]] = set()
    held: dict[float, _OfOneTime] = defaultdict(_OfOneTime)
    kept, repeated, too_many = [], 0, []
    for entry in entries:
        time = entry.event.time
        if entry.id:
            if (time, entry.id) in seen:
                repeated += 1
                continue
            seen.add((time, entry.id))
        if (detail := held[time].admit(entry)) is None:
            kept.append(entry)
        else:
            too_many.append((entry, detail))
    return kept, repeated, too_many


@dataclass
class EntityBatch:
    """One entity's part of a batch; the labels of its instants are indices into `entries`."""

    key: bytes
    partition: int
    record: BeliefRecord
    is_known: bool = False  # whether it had a record before
    entries: list[Entry] = field(default_factory=list)
    model: EntityModel | None = None
    belief: Belief | None = None  # the current belief in event time
    instants: list[Instant] = field(default_factory=list)
    emitting: set[int] = field(default_factory=set)  # the instants whose posteriors are emitted
    follows: bool = False  # whether each instant is one new observation, later than all before it
    # when each observation that was applied had been received, its time, and its sensor
    arrivals: list[tuple[float | None, float, str]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unreported: list[str] = field(default_factory=list)  # messages that no posterior has named yet
    repeated: int = 0  # observations whose ids the belief held already
    revised: bool = False  # a message changed the past of the newest posterior, not emitted again yet
    outcome: Outcome | None = None
    _read_message: MessageReader | None = None

    @cached_property
    def name(self) -> str:
        return self.key.decode(errors="replace")

    @cached_property
    def bit(self) -> int:
        """Its bit in the health of sensors."""
        return entity_bit(self.key)

    @property
    def should_store(self) -> bool:
        """Whether there is anything to store; an entity with only bad messages has nothing."""
        return self.record.has_belief or bool(self.record.pending) or self.record.resets > 0

    def begin(self, offset: int, is_prior: bool) -> bool:
        """Record that a message is processed, applied or rejected; returns False if it was so already."""
        record = self.record
        if offset <= (record.prior_offset if is_prior else record.observation_offset):
            return False
        if is_prior:
            record.prior_offset = offset
        else:
            record.observation_offset = offset
        return True

    def set_model(self, model: EntityModel) -> None:
        """Set the model; a belief with other coordinates is replaced by the model's prior."""
        names = model.coordinates
        if self.record.has_belief and self.record.coordinates != names:
            log.warning(
                "the model's coordinates have changed, the belief starts again from its prior",
                entity=self.name,
            )
            self.record.forget()
        self.record.coordinates = names
        self.model = model

    def plan(self, read: MessageReader, most_moments: int) -> None:
        """Order the due messages into instants, and go back to the belief they start from.

        Rejects messages too late for the model's window. Also rejects waiting priors and messages of one time beyond
        their limits. A prior is due once there is an observation at or after its time. So it does not exclude earlier
        observations that have not arrived yet.
        """
        assert self.model is not None
        self._read_message = read
        if self._follows():
            return
        lateness = self.record.past.lateness_window(self.model.message.lateness_window, most_moments)
        due: list[Entry] = []
        ahead: list[Entry] = []
        for entry in self.entries:
            time = entry.event.time
            if time < (floor := lateness.floor):
                detail = f"time: {time} is before {floor}, the earliest time that can still be changed"
                self.reject(entry, Reason.late, detail)
            elif entry.event.prior is not None and time > lateness.newest:
                ahead.append(entry)
            else:
                lateness.note(time)
                due.append(entry)
        due = [*self._due_priors(lateness.newest), *self._queue_priors(ahead, lateness.newest), *due]
        if not due:
            return
        first = min(entry.event.time for entry in due)
        late = first <= self.record.last_emitted
        self.entries, repeated, too_many = admitted([*self._rewind(first), *due])
        self.repeated += repeated
        for entry, detail in too_many:
            self.reject(entry, Reason.too_large, detail)
        labelled = [replace(entry.event, label=label) for label, entry in enumerate(self.entries)]
        self.instants = instants(labelled)
        self.emitting = self._instants_to_emit(late)

    def _follows(self) -> bool:
        """Plan observations that follow all others in order, and return whether the batch has only such.

        Most batches are so. The general plan gives the same, and takes ten times as long.
        """
        past, last = self.record.past, max(self.record.past.newest, self.record.last_emitted)
        if self.record.pending or (past.moments and past.state is None):
            return False
        found: list[Instant] = []
        for label, entry in enumerate(self.entries):
            time, reading = entry.event.time, entry.event.reading
            if reading is None or not time > last or len(entry.message.value) > BYTES_OF_ONE_TIME:
                return False
            found.append(Instant(time, (reading,), None, (label,)))
            last = time
        self.belief, self.instants, self.follows = self.record.belief, found, True
        return True

    def _due_priors(self, newest: float) -> list[Entry]:
        """Return the stored priors that are due now."""
        waiting, due = [], []
        for offset, raw in self.record.pending:
            entry = self._read(StoredMessage(True, offset, raw))
            if entry is None:
                continue
            if entry.event.time <= newest:
                due.append(entry)
            else:
                waiting.append((offset, raw))
        self.record.pending = waiting
        return due

    def _queue_priors(self, ahead: Sequence[Entry], newest: float) -> list[Entry]:
        """Store new priors that are not due yet, and return those that are."""
        due, waiting = [], self.record.pending
        size = sum(len(value) for _, value in waiting)
        for entry in ahead:
            if entry.event.time <= newest:
                due.append(entry)
            elif len(waiting) < MOST_WAITING and size + len(entry.message.value) <= WAITING_BYTES:
                waiting.append((entry.message.offset, entry.message.value))
                size += len(entry.message.value)
            else:
                detail = (
                    f"time: {len(waiting)} priors of this entity ({size} bytes) already wait for their time"
                )
                self.reject(entry, Reason.future, detail)
        return due

    def _rewind(self, time: float) -> list[Entry]:
        """Go back to the last belief before `time`, and return the messages to apply again."""
        state, taken = self.record.past.rewind(time)
        self.belief = self.record.decoded(state)
        messages = [message for moment in taken for message in unpack(moment.content)]
        entries = [self._read(message) for message in messages]
        found = [entry for entry in entries if entry is not None]
        for entry in found:
            entry.is_applied = True
        return found

    def _read(self, message: StoredMessage) -> Entry | None:
        assert self._read_message is not None
        try:
            event, name = self._read_message(self.key, message)
            return Entry(event, message, id=name)
        except Unusable as unusable:  # its model or its sensor has changed
            self.rejected.append(Rejected(message, None, unusable.reason, unusable.detail))
            return None

    def _instants_to_emit(self, late: bool) -> set[int]:
        last_emitted = self.record.last_emitted
        informing = [index for index, instant in enumerate(self.instants) if instant.informs]
        found = {index for index in informing if self.instants[index].time > last_emitted}
        if late and len(found) < len(informing):
            # the last one at the newest emitted time
            found.add(informing[len(informing) - len(found) - 1])
        return found

    def reject(self, entry: Entry, reason: Reason, detail: str) -> None:
        self.rejected.append(Rejected(entry.message, entry.delivered, reason, detail))

    def fail(self, labels: Sequence[int]) -> None:
        """Reject the messages with these labels, because they could not be applied."""
        for label in labels:
            self.reject(self.entries[label], Reason.numerical, NOT_FINITE)

    def without_new(self, instant: Instant) -> Instant | None:
        """The instant as it was before this batch, if it differs and is not empty."""
        old = [label for label in instant.labels if self.entries[label].is_applied]
        if not old or len(old) == len(instant.labels):
            return None
        readings = [
            reading
            for reading, label in zip(instant.readings, instant.labels, strict=True)
            if self.entries[label].is_applied
        ]
        return replace(instant, readings=tuple(readings), labels=tuple(old))

    def earlier(self, instant: Instant) -> Earlier | None:
        """All instants that count, before this one; None if there are none, or some are forgotten."""
        moments = self.record.past.moments
        if not moments or (number := moments[-1].number) > min(len(moments), MOST_INSTANTS):
            return None
        same_time = moments[-1].time == instant.time
        return Earlier(number - same_time, lambda: self._applied(number), lambda: self._before(number))

    def _applied(self, number: int) -> list[Instant] | None:
        """The instants of the last moments; None if one of their messages cannot be read any more."""
        assert self._read_message is not None
        try:
            events = [
                self._read_message(self.key, message)[0]
                for moment in self.record.past.moments[-number:]
                for message in unpack(moment.content)
            ]
        except Unusable:  # its model or its sensor has changed
            return None
        return instants(events)

    def _before(self, number: int) -> Belief | None:
        """The belief before the last moments."""
        past = self.record.past
        earlier = past.moments[:-number]
        return self.record.decoded(earlier[-1].state if earlier else past.base)

    def _number(self, instant: Instant, outcome: Outcome) -> int:
        """The number of the moment of an instant that follows the belief."""
        assert self.model is not None
        moments = self.record.past.moments
        step = Step(self.belief, self.model.state, instant)
        last, is_same_time = MOST_INSTANTS, False
        if moments:
            last, is_same_time = moments[-1].number, moments[-1].time == instant.time
        return number_of(step, outcome, last, is_same_time)

    def apply(self, instant: Instant, outcome: Outcome) -> None:
        """Make the outcome the belief, and add its messages to the past."""
        if self.follows:
            self._append(instant, outcome)
            return
        number = self._number(instant, outcome)
        self.belief, informs, record = outcome.belief, instant.informs, self.record
        if informs:
            self.outcome = outcome
        entries = [self.entries[label] for label in sorted(instant.labels)]  # in order of arrival
        content = pack([entry.message for entry in entries])
        moments = record.past.moments
        if moments and moments[-1].time == instant.time:
            content = moments.pop().content + content
        moments.append(Moment(instant.time, content, outcome.belief, number))
        for entry in entries:
            if entry.is_applied:
                continue
            if not entry.message.is_prior:
                self.arrivals.append((entry.received, instant.time, entry.sensor))
            record.sequence += 1
            record.prior_sequence += entry.message.is_prior
            self.revised |= instant.time < record.last_emitted or (
                informs and instant.time == record.last_emitted
            )
            if entry.name and entry.event.control is None:
                self.unreported.append(entry.name)

    def _append(self, instant: Instant, outcome: Outcome) -> None:
        """Apply one new observation that follows all others; as the general way, in a third of the time."""
        entry, record = self.entries[instant.labels[0]], self.record
        number = self._number(instant, outcome)
        self.belief, self.outcome = outcome.belief, outcome
        record.past.moments.append(Moment(instant.time, pack((entry.message,)), outcome.belief, number))
        record.sequence += 1
        self.arrivals.append((entry.received, instant.time, entry.sensor))
        self.unreported.append(entry.name)

    def emits(self, index: int) -> bool:
        """Whether to emit a posterior after this instant, which is applied."""
        if self.follows:
            return True
        new = self.instants[index].time > self.record.last_emitted
        return index in self.emitting and (new or self.revised)

    def mark_emitted(self) -> list[str]:
        """Mark the posterior as emitted, and return the names of its new messages."""
        assert self.belief is not None
        self.record.revision += self.revised
        self.record.last_emitted = max(self.record.last_emitted, self.belief.time)
        names, self.unreported, self.revised = self.unreported, [], False
        return names

    def limit_past(self, most_moments: int) -> None:
        """Drop what neither late messages nor a joint posterior need, and more if the messages have too many bytes."""
        assert self.model is not None
        past, window = self.record.past, self.model.message.lateness_window
        past.thin()
        past.forget(window, most_moments, MOST_INSTANTS)
        most = len(past.moments)
        while most and sum([len(moment.content) for moment in past.moments]) > PAST_BYTES:
            most //= 2
            if most:
                past.forget(window, most)
            else:
                past.close()
