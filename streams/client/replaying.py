"""Sends dead letters to their original topic again, after the fault has been fixed.

No message may be sent again twice by mistake, because a worker would apply one without an id twice. So notes among the
dead letters record replays: one before the letters are sent (`begun`) and one after (`sent`). All notes are in
partition 0, in the same order for everybody. If two clients replay the same letter at once, the first to write its note
sends it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from beliefstream.schemas import Replay, Unusable, cloudevents, parse
from beliefstream.schemas.dead_letter import HEADERS
from beliefstream.streams.client.dead_letters import DeadLetterConsumer
from beliefstream.streams.client.publishing import Place, Publisher
from beliefstream.streams.client.received_dead_letter import ReceivedDeadLetter, Selection
from beliefstream.streams.client.replay_plan import ChosenLetter, ReplayHistory, ReplayPlan, plan_of
from beliefstream.streams.kafka.connection import BrokerUnavailable, connect, require_known

SOURCE = "/beliefstream/replay"
GROUP_LETTERS, GROUP_BYTES = 200, 8 * 1024 * 1024  # letters and bytes for one pair of notes
SEND_SECONDS = 60.0  # until a message not taken by the broker counts as not sent
NOTES = 0  # the partition of all notes

GONE = "the topic has deleted it meanwhile"
RIVAL = "somebody else is sending it again right now"
NOT_TRIED = "not tried, after others could not be sent"


@dataclass(frozen=True)
class Replayed:
    """Result for a chosen letter: `place` is its new place, or `problem` says why it may not be sent."""

    letter: ChosenLetter
    place: Place | None = None
    problem: str = ""


class Replayer:
    """Sends dead letters again.

    >>> with Replayer("localhost:9092") as replayer:
    ...     plan = replayer.plan(Selection(reasons={Reason.unknown_sensor}))
    ...     for replayed in replayer.send(plan):
    ...         print(replayed.letter.source, replayed.place, replayed.problem)

    Key and value are sent unchanged, with the header `beliefstream_replay_of`; the partition is that of the key. Only
    messages from `sources` are sent, no definitions, and nothing twice unless forced.

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        topic: the topic of dead letters.
        sources: the topics to which messages may be sent again.
        definitions: the topics of definitions.
        **kafka_options: that `kafka.KafkaProducer` and `kafka.KafkaConsumer` share.

    Raises:
        BrokerUnavailable: (every method) no broker answers in time.
        TopicMissing: (every method) the broker has no such topic.
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
        self._noted = 0  # the plan knows the notes before this offset

    def plan(self, selection: Selection, most: int | None = None, force: bool = False) -> ReplayPlan:
        """Read all dead letters, and plan which of the selection to send again; see `plan_of`."""
        with self._letters(from_beginning=True) as consumer:
            letters = [ChosenLetter.of(received) for received in consumer.stored() if received in selection]
            history, self._noted = ReplayHistory.of(consumer.replays), consumer.ends[NOTES]
        return plan_of(letters, history, self._sources, self._definitions, most, force)

    def send(self, plan: ReplayPlan) -> Iterator[Replayed]:
        """Send the planned letters, oldest first; yields the result for each.

        Raises:
            kafka.errors.KafkaError: the notes cannot be written; letters not yet reported were not sent.
        """
        if not plan.chosen:
            return
        rivals = _Rivals(self._servers, self._topic, self._noted, self._options)
        self._stack.callback(rivals.close)
        left = {letter.place: letter for letter in plan.chosen}
        groups = self._groups(left, min(letter.time for letter in plan.chosen))
        for group in groups:
            failed = False
            for replayed in self._send_group(group, rivals):
                del left[replayed.letter.place]
                failed |= replayed.place is None and replayed.problem != RIVAL
                yield replayed
            if failed:
                yield from (Replayed(letter, problem=NOT_TRIED) for letter in left.values())
                return
        yield from (Replayed(letter, problem=GONE) for letter in left.values())

    def close(self) -> None:
        """Close the connections."""
        self._publishers.clear()
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def _send_group(
        self, group: Sequence[tuple[ChosenLetter, ReceivedDeadLetter]], rivals: _Rivals
    ) -> Iterator[Replayed]:
        identity = uuid4().hex
        publishers = {letter.topic: self._publisher(letter.topic) for letter, _ in group}
        begun = self._note(Replay(id=identity, state="begun", time=time.time(), letters=_ids(group)))
        taken = rivals.before(begun, identity)
        sending = {
            letter.id: _publish(publishers[letter.topic], letter, received)
            for letter, received in group
            if letter.id not in taken
        }
        results = [
            _result(letter, sending[letter.id]) if letter.id in sending else Replayed(letter, problem=RIVAL)
            for letter, _ in group
        ]
        done = [each for each in results if each.place is not None]
        try:
            if done:
                self._note(
                    Replay(
                        id=identity,
                        state="sent",
                        time=time.time(),
                        letters=tuple(each.letter.id for each in done),
                        places=tuple(_shown(each.place) for each in done if each.place is not None),
                    )
                )
        finally:  # report what was sent, noted or not
            yield from results

    def _note(self, note: Replay) -> int:
        """Write a note; returns its offset."""
        headers = cloudevents.headers(cloudevents.REPLAY, SOURCE, f"{note.id}-{note.state}", note.time)
        future = self._publisher(self._topic).publish(None, note.to_json(), headers, NOTES)
        try:
            return future.result(SEND_SECONDS).offset
        except TimeoutError as error:
            raise BrokerUnavailable(self._servers, f"no answer within {SEND_SECONDS:g} s") from error


class _Rivals:
    """Notes that others have written since the plan was made."""

    def __init__(self, servers: str | list[str], topic: str, begin: int, options: dict[str, Any]) -> None:
        self._servers, self._place = servers, TopicPartition(topic, NOTES)
        settings = {**options, "group_id": None, "enable_auto_commit": False, "auto_offset_reset": "earliest"}
        self._consumer: Any = connect(KafkaConsumer, servers, settings)
        self._consumer.assign([self._place])
        self._consumer.seek(self._place, begin)
        self._own: set[str] = set()
        self._begun: list[tuple[int, tuple[str, ...]]] = []  # offset of a note, and its letters

    def before(self, offset: int, own: str) -> set[str]:
        """Ids of messages that others have noted before `offset`, the place of our own note `own`."""
        self._own.add(own)
        deadline = time.monotonic() + SEND_SECONDS
        while self._consumer.position(self._place) <= offset:
            if time.monotonic() > deadline:
                raise BrokerUnavailable(self._servers, "the notes of replays could not be read in time")
            for records in self._consumer.poll(timeout_ms=200).values():
                for record in records:
                    self._take(record)
        return {letter for place, letters in self._begun if place < offset for letter in letters}

    def _take(self, record: Any) -> None:
        if cloudevents.parse(record.headers).get("type") != cloudevents.REPLAY:
            return
        with suppress(Unusable):  # not a replay note
            note = parse(Replay, record.value)
            if note.state == "begun" and note.id not in self._own:
                self._begun.append((record.offset, note.letters))

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def _ids(group: Sequence[tuple[ChosenLetter, ReceivedDeadLetter]]) -> tuple[str, ...]:
    return tuple(letter.id for letter, _ in group)


def _publish(publisher: Publisher, letter: ChosenLetter, received: ReceivedDeadLetter) -> Future[Place]:
    headers = [(HEADERS["replay_of"], _shown(letter.place).encode())]
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


def _shown(place: Place) -> str:
    return f"{place.topic}/{place.partition}:{place.offset}"
