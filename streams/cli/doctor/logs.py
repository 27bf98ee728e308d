"""Checks the logs for losses: messages deleted before they were read, truncated logs, and unreadable beliefs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from beliefstream.schemas import printable
from beliefstream.streams.cli.doctor.findings import Finding, Status
from beliefstream.streams.kafka.connection import BrokerUnavailable, Span, TopicMissing, TopicReader, connect
from beliefstream.streams.settings import Settings

SUBJECT = "losses"
READING_SECONDS = 10.0  # limit for reading a changelog; a long one takes longer
SHOWN = 3  # examples in a line
LOST = "raise the topic's retention, and have the messages sent again; deploy/RUNBOOK.md, MessagesLost"
CUT = "workers repair this when they start; deploy/RUNBOOK.md, LogDamaged"
DAMAGED = (
    "stop the workers, write a record without a value for that key to that partition, and start them again; the entity "
    "then starts from the model's prior, or from one that you set"
)
STRANGE = (
    "run the version of Beliefstream that wrote them, or start again with another BELIEFSTREAM_APPLICATION"
)


def examine_offsets(settings: Settings, topics: Sequence[str]) -> Iterator[Finding]:
    """Report messages deleted before the workers' group read them, and logs that end before its offsets."""
    try:
        for topic in topics:
            before = _committed(settings, topic)
            spans = _spans(settings, topic)
            # in this order, because the workers continue to read, and the log grows
            yield from _deleted(settings, topic, spans, _committed(settings, topic))
            yield from _truncated(topic, spans, before)
    except (AuthorizationError, BrokerUnavailable, TopicMissing, KafkaError) as error:
        yield _not_readable("the workers' offsets", error)


def _deleted(
    settings: Settings, topic: str, spans: Mapping[int, Span], committed: Mapping[int, int]
) -> Iterator[Finding]:
    gone = {
        number: (done, spans[number].begin)
        for number, done in committed.items()
        if done < spans[number].begin
    }
    if gone:
        places = ", ".join(
            f"{topic}-{number} {done} to {begin - 1}" for number, (done, begin) in gone.items()
        )
        count = sum(begin - done for done, begin in gone.values())
        detail = f"{count} messages that wait for {settings.application!r} are already deleted: {places}"
        yield Finding(SUBJECT, Status.problem, detail, LOST)


def _truncated(topic: str, spans: Mapping[int, Span], committed: Mapping[int, int]) -> Iterator[Finding]:
    cut = {number: done for number, done in committed.items() if done > spans[number].end}
    if cut:
        places = ", ".join(
            f"{topic}-{number} ends at {spans[number].end} and was read up to {done}"
            for number, done in cut.items()
        )
        detail = f"{len(cut)} partitions have lost their end, or were created again: {places}"
        yield Finding(SUBJECT, Status.problem, detail, CUT)


def examine_changelog(settings: Settings) -> Iterator[Finding]:
    """Report beliefs that no worker can read."""
    topic, what = settings.names.beliefs_changelog, "the changelog"
    try:
        from beliefstream.streams.state.codec import DamagedRecord, UnknownVersion

        faults, whole = _unreadable(settings, topic, _spans(settings, topic))
    except ModuleNotFoundError as error:
        remedy = "pip install 'beliefstream[worker]'"
        yield Finding(SUBJECT, Status.skipped, f"{what}: {error.name} is missing", remedy)
        return
    except (AuthorizationError, BrokerUnavailable, TopicMissing, KafkaError) as error:
        yield _not_readable(what, error)
        return
    for kind, fault, remedy in (
        (DamagedRecord, "are damaged: a worker stops at the entity's next message", DAMAGED),
        (UnknownVersion, "are of another version: no worker starts", STRANGE),
    ):
        some = [(place, fault) for place, fault in faults.items() if isinstance(fault, kind)]
        if some:
            examples = "; ".join(
                f"{key[:80].decode(errors='replace')!r} in partition {partition}, {fault}"
                for (partition, key), fault in some[:SHOWN]
            )
            detail = printable(f"{len(some)} records of {topic!r} {fault}: {examples}")
            yield Finding(SUBJECT, Status.problem, detail, remedy)
    if not whole:
        detail = f"{what} is too long to read in {READING_SECONDS:.0f} s, the rest was not checked"
        yield Finding(SUBJECT, Status.skipped, detail)


def _unreadable(
    settings: Settings, topic: str, spans: Mapping[int, Span]
) -> tuple[dict[tuple[int, bytes], Exception], bool]:
    """Return faults of the newest record of each key, by partition and key, and whether the whole topic was read."""
    ends = {TopicPartition(topic, number): span for number, span in spans.items() if span.end > span.begin}
    faults: dict[tuple[int, bytes], Exception] = {}
    if not ends:
        return faults, True
    consumer = _consumer(settings, None)
    try:
        consumer.assign(list(ends))
        for partition, span in ends.items():
            consumer.seek(partition, span.begin)
        deadline = time.monotonic() + READING_SECONDS
        while any(consumer.position(partition) < span.end for partition, span in ends.items()):
            if time.monotonic() > deadline:
                return faults, False
            for records in consumer.poll(timeout_ms=200).values():
                for record in records:
                    place = (record.partition, record.key or b"")
                    faults.pop(place, None)
                    if (fault := _fault(record)) is not None:
                        faults[place] = fault
    finally:
        consumer.close()
    return faults, True


def _fault(record: Any) -> Exception | None:
    """Return why a worker cannot read the record; None if it can."""
    from beliefstream.streams.state.codec import DamagedRecord, UnknownVersion
    from beliefstream.streams.state.record import INTERNAL, BeliefRecord, unpack

    if record.value is None or (record.key or INTERNAL)[:1] == INTERNAL:
        return None
    try:
        found = BeliefRecord.decode(record.value)
        for moment in found.past.moments:
            unpack(moment.content)
        _ = found.belief
    except (DamagedRecord, UnknownVersion) as fault:
        return fault
    return None


def _committed(settings: Settings, topic: str) -> dict[int, int]:
    """The committed offsets of the workers' group, by partition."""
    consumer = _consumer(settings, settings.application)
    try:
        found = {
            number: consumer.committed(TopicPartition(topic, number))
            for number in consumer.partitions_for_topic(topic) or ()
        }
    finally:
        consumer.close()
    return {number: done for number, done in found.items() if done is not None}


def _consumer(settings: Settings, group: str | None) -> Any:
    options = {"group_id": group, "enable_auto_commit": False, **settings.client_options}
    return connect(KafkaConsumer, settings.brokers, options)


def _spans(settings: Settings, topic: str) -> dict[int, Span]:
    with TopicReader(settings.brokers, topic, settings.client_options) as reader:
        return reader.spans()


def _not_readable(what: str, error: Exception) -> Finding:
    if isinstance(error, AuthorizationError):
        remedy = "run it as the worker's user: deploy/SECURITY.md"
        return Finding(SUBJECT, Status.skipped, f"{what}: this user may not read them: {error}", remedy)
    return Finding(SUBJECT, Status.problem, f"{what}: cannot be read: {error}", "look at the broker's log")
