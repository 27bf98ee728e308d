"""Sends dead letters to their original topic again, after the cause has been fixed.

A worker would apply a message without an id twice if it is sent again twice. So notes among the dead letters record
replays: one before the letters are sent (`begun`) and one after (`sent`). All notes are in partition 0, so all clients
see them in the same order. If two clients replay the same letter at once, the first one to write its note sends it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self
from uuid import uuid4

from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from beliefstream.schemas import Reason, Replay, Unusable, cloudevents, parse
from beliefstream.schemas.dead_letter import HEADERS
from beliefstream.streams.client.dead_letters import DeadLetterConsumer, ReceivedDeadLetter, Selection
from beliefstream.streams.client.producers import Place, Publisher
from beliefstream.streams.kafka.connection import (
    BrokerUnavailable,
    Closing,
    Span,
    TopicReader,
    require_known,
)

FORCE = "only --force sends them again"
DEFINITION = "are definitions, of which only the newest counts; set them with `sensors set` or `models set`"
OTHER_TOPIC = "came from a topic that is not in use"
EMPTY = "have neither key nor value"
DUPLICATE = "repeat another dead letter of the same message"
SENT = f"were sent again before; {FORCE}"
INTERRUPTED = f"may have been sent again before, in an interrupted replay; {FORCE}"
FAILED_AGAIN = f"were sent again before and have failed again; {FORCE}"
OVER_LIMIT = "are older than the newest ones that --limit selects"
SOURCE = "/beliefstream/replay"
SEND_SECONDS = 60.0  # a message that the broker does not acknowledge in this time counts as not sent
NOTES = 0  # the partition of all notes
DELETED = "the topic has deleted it meanwhile"
OTHER_CLIENT = "another client is sending it again now"
NOT_TRIED = "not tried, because others could not be sent"


@dataclass(frozen=True, slots=True)
class ChosenLetter:
    """A dead letter to send again, without its bytes, which are read when it is sent."""

    id: str  # of the message, topic/partition:offset#digest
    place: Place  # of the dead letter
    time: float  # at which the dead letter was written, in seconds since the epoch
    reason: Reason
    topic: str  # of the message
    source: str  # position of the message, as topic/partition:offset
    entity: str | None
    sensor: str | None
    is_empty: bool  # whether it has neither key nor value
    replay_of: str | None  # earlier dead letter from which the message was already sent again

    @classmethod
    def of(cls, received: ReceivedDeadLetter) -> Self:
        """Keep the fields of a letter that the plan needs."""
        letter = received.letter
        return cls(
            received.id,
            received.place,
            received.time,
            letter.reason,
            letter.topic,
            received.source,
            received.entity,
            received.sensor,
            letter.key is None and not letter.value,
            letter.replay_of,
        )


@dataclass
class ReplayHistory:
    """Earlier replays, from the notes among the dead letters."""

    begun: set[str] = field(default_factory=set)  # ids of messages whose replay was begun
    sent: dict[str, str] = field(default_factory=dict)  # new position of each that was sent again, by its id

    @classmethod
    def of(cls, notes: Iterable[Replay]) -> Self:
        """Combine all notes."""
        history = cls()
        for note in notes:
            if note.state == "begun":
                history.begun.update(note.letters)
            else:
                history.sent.update(zip(note.letters, note.places, strict=False))
        return history

    @cached_property
    def places(self) -> set[str]:
        """All new positions."""
        return {*self.sent.values()}

    def obstacle(self, letter: ChosenLetter) -> str | None:
        """Return the reason not to send a letter again without `force`; None if it may be sent."""
        if letter.id in self.sent:
            return SENT
        if letter.id in self.begun:
            return INTERRUPTED
        return FAILED_AGAIN if letter.replay_of is not None or letter.source in self.places else None


@dataclass
class ReplayPlan:
    """Letters to send again, oldest first, and the number of skipped ones by cause."""

    chosen: list[ChosenLetter] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def plan_of(
    letters: list[ChosenLetter],
    history: ReplayHistory,
    sources: Collection[str],
    definitions: Collection[str],
    most: int | None = None,
    force: bool = False,
) -> ReplayPlan:
    """Plan a replay of the newest `most` letters that may be sent again to their topics, the `sources`; all if None.

    The letters are in order of time. With `force` those that were already sent again are included.
    """
    plan, chosen_ids = ReplayPlan(), set[str]()
    for letter in letters:
        cause = DEFINITION if letter.topic in definitions else None
        cause = cause or (None if letter.topic in sources else OTHER_TOPIC)
        cause = cause or (EMPTY if letter.is_empty else DUPLICATE if letter.id in chosen_ids else None)
        cause = cause or (None if force else history.obstacle(letter))
        if cause is not None:
            plan.skipped[cause] += 1
            continue
        chosen_ids.add(letter.id)
        plan.chosen.append(letter)
    if most is not None and (beyond := len(plan.chosen) - most) > 0:
        plan.skipped[OVER_LIMIT] = beyond
        del plan.chosen[:beyond]
    return plan


GROUP_LETTERS, GROUP_BYTES = 200, 8 * 1024 * 1024  # letters and bytes for one pair of notes


@dataclass(frozen=True)
class Replayed:
    """Result for a chosen letter: its new position `place`, or the `problem` why it may not have been sent."""

    letter: ChosenLetter
    place: Place | None = None
    problem: str = ""


class Replayer(Closing):
    """Sends dead letters again.

    >>> with Replayer("localhost:9092") as replayer:
    ...     plan = replayer.plan(Selection(reasons={Reason.unknown_sensor}))
    ...     for replayed in replayer.send(plan):
    ...         print(replayed.letter.source, replayed.place, replayed.problem)

    Key and value are sent unchanged, with the header `beliefstream_replay_of`; the key determines the partition. Only
    messages from `sources` are sent. Definitions are not sent, and no message is sent twice unless forced.

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        topic: topic of dead letters.
        sources: topics to which messages may be sent again.
        definitions: topics of definitions.
        **kafka_options: options that `kafka.KafkaProducer` and `kafka.KafkaConsumer` share.

    Raises:
        BrokerUnavailable: no broker answers in time (every method).
        TopicMissing: the broker has no such topic (every method).
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        topic: str = "dead-letters",
        *,
        sources: Collection[str] = ("observations", "priors"),
        definitions: Collection[str] = ("sensors", "models"),
        **kafka_options: Any,
    ) -> None:
        require_known(kafka_options, KafkaProducer, KafkaConsumer)
        self._servers, self._topic, self._options = bootstrap_servers, topic, kafka_options
        self._sources, self._definitions = {*sources}, {*definitions}
        self._publishers: dict[str, Publisher] = {}
        self._stack = ExitStack()
        self._notes_end = 0  # the plan includes the notes before this offset
        self._next_note = 0  # notes before this offset are known
        self._taken: set[str] = set()  # ids of messages in notes that are not in the plan

    def plan(self, selection: Selection, most: int | None = None, force: bool = False) -> ReplayPlan:
        """Read all dead letters, and plan which of the selected ones to send again; see `plan_of`."""
        with self._letters(from_beginning=True) as consumer:
            letters = [ChosenLetter.of(received) for received in consumer.stored() if received in selection]
            history, self._notes_end = ReplayHistory.of(consumer.replays), consumer.ends[NOTES]
        return plan_of(letters, history, self._sources, self._definitions, most, force)

    def send(self, plan: ReplayPlan) -> Iterator[Replayed]:
        """Send the planned letters, oldest first, and yield the result for each.

        Raises:
            kafka.errors.KafkaError: the notes cannot be written; letters without a result were not sent.
        """
        if not plan.chosen:
            return
        self._next_note, self._taken = self._notes_end, set()
        remaining = {letter.place: letter for letter in plan.chosen}
        for group in self._groups(remaining, min(letter.time for letter in plan.chosen)):
            failed = False
            for replayed in self._send_group(group):
                del remaining[replayed.letter.place]
                failed |= replayed.place is None and replayed.problem != OTHER_CLIENT
                yield replayed
            if failed:
                yield from (Replayed(letter, problem=NOT_TRIED) for letter in remaining.values())
                return
        yield from (Replayed(letter, problem=DELETED) for letter in remaining.values())

    def close(self) -> None:
        """Close the connections."""
        self._publishers.clear()
        self._stack.close()

    def _letters(self, **options: Any) -> DeadLetterConsumer:
        return DeadLetterConsumer(self._servers, self._topic, **options, **self._options)

    def _publisher(self, topic: str) -> Publisher:
        if topic not in self._publishers:
            publisher = Publisher(self._servers, topic, SOURCE, self._options)
            self._stack.callback(publisher.close, SEND_SECONDS)
            self._publishers[topic] = publisher
        return self._publishers[topic]

    def _groups(
        self, wanted: dict[Place, ChosenLetter], since: float
    ) -> Iterator[list[tuple[ChosenLetter, ReceivedDeadLetter]]]:
        """Yield the chosen letters with their bytes, in groups of bounded size."""
        chosen = dict(wanted)
        group: list[tuple[ChosenLetter, ReceivedDeadLetter]] = []
        size = 0
        with self._letters(since=since) as consumer:
            for received in consumer.stored():
                if (letter := chosen.pop(received.place, None)) is None:
                    continue
                group.append((letter, received))
                size += len(received.letter.value or b"")
                if len(group) == GROUP_LETTERS or size >= GROUP_BYTES or not chosen:
                    yield group
                    group, size = [], 0
                if not chosen:
                    return
        if group:
            yield group

    def _send_group(self, group: Sequence[tuple[ChosenLetter, ReceivedDeadLetter]]) -> Iterator[Replayed]:
        note_id = uuid4().hex
        publishers = {letter.topic: self._publisher(letter.topic) for letter, _ in group}
        ids = tuple(letter.id for letter, _ in group)
        self._read_notes(self._note(Replay(id=note_id, state="begun", time=time.time(), letters=ids)))
        sending = {
            letter.id: _publish(publishers[letter.topic], letter, received)
            for letter, received in group
            if letter.id not in self._taken
        }
        results = [
            _result(letter, sending[letter.id])
            if letter.id in sending
            else Replayed(letter, problem=OTHER_CLIENT)
            for letter, _ in group
        ]
        sent = [each for each in results if each.place is not None]
        try:
            if sent:
                self._note(
                    Replay(
                        id=note_id,
                        state="sent",
                        time=time.time(),
                        letters=tuple(each.letter.id for each in sent),
                        places=tuple(str(each.place) for each in sent),
                    )
                )
        finally:  # the results are valid even if the note could not be written
            yield from results

    def _note(self, note: Replay) -> int:
        """Write a note, and return its offset."""
        headers = cloudevents.headers(cloudevents.REPLAY, SOURCE, f"{note.id}-{note.state}", note.time)
        future = self._publisher(self._topic).publish(None, note.to_json(), headers, NOTES)
        try:
            return future.result(SEND_SECONDS).offset
        except TimeoutError as error:
            raise BrokerUnavailable(self._servers, f"no answer within {SEND_SECONDS:g} s") from error

    def _read_notes(self, own: int) -> None:
        """Read the notes of other clients before our own one, which has this offset."""
        with TopicReader(self._servers, self._topic, self._options) as reader:
            spans = {place.partition: Span(0, 0) for place in reader.partitions}
            spans[NOTES] = Span(self._next_note, own)
            for record in reader.read(spans, SEND_SECONDS):
                if (
                    record.offset < own
                    and cloudevents.parse(record.headers).get("type") == cloudevents.REPLAY
                ):
                    with suppress(Unusable):  # not a replay note
                        note = parse(Replay, record.value)
                        self._taken.update(note.letters if note.state == "begun" else ())
        self._next_note = own + 1


def _publish(publisher: Publisher, letter: ChosenLetter, received: ReceivedDeadLetter) -> Future[Place]:
    headers = [(HEADERS["replay_of"], str(letter.place).encode())]
    try:
        return publisher.publish(received.letter.key, received.letter.value, headers)
    except (KafkaError, BrokerUnavailable) as error:
        refused: Future[Place] = Future()
        refused.set_exception(error)
        return refused


def _result(letter: ChosenLetter, future: Future[Place]) -> Replayed:
    try:
        return Replayed(letter, future.result(SEND_SECONDS))
    except TimeoutError:
        return Replayed(letter, problem=f"the broker has not answered for {SEND_SECONDS:g} s")
    except (KafkaError, BrokerUnavailable) as error:
        return Replayed(letter, problem=f"{type(error).__name__}: {error}")
