"""Checks records and committed offsets for wrong partitioners, wrong clocks, and a group without progress."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Any

from kafka import TopicPartition

from beliefstream.streams.cli.doctor.findings import (
    NOT_READABLE,
    READING_SECONDS,
    Finding,
    Status,
    absent,
    not_readable,
    offsets,
    reader_of,
)
from beliefstream.streams.cli.output import counted
from beliefstream.streams.kafka.connection import Span
from beliefstream.streams.kafka.partitioners import partition_of, recognise
from beliefstream.streams.settings import Settings

TAIL = 200  # newest records of each partition to check
AHEAD_SECONDS = 2.0  # tolerance for a time ahead of our clock
PATIENCE = 10.0  # seconds in which a working group commits: it commits every second, and a batch takes less


def examine_records(settings: Settings, missing: Collection[str] = frozenset()) -> Iterator[Finding]:
    """Check partitioner, clocks and group, on the topics that are not `missing`."""
    there = [topic for topic in (settings.names.observations, settings.names.priors) if topic not in missing]
    if not there:
        neither = f"{absent(settings.names.observations)}; the same holds for {settings.names.priors!r}"
        for subject in ("partitioner", "clocks", "group"):
            yield Finding(subject, Status.skipped, neither)
        return
    if len(there) == 1:
        (other,) = {settings.names.observations, settings.names.priors} - {*there}
        detail = f"{absent(other)}: partitioner, clocks and group are checked on {there[0]!r} only"
        yield Finding("records", Status.skipped, detail)
    made = set()
    try:
        for finding in _examined(settings, there):
            made.add(finding.subject)
            yield finding
    except NOT_READABLE as error:
        subjects = ", ".join(each for each in ("partitioner", "clocks", "group") if each not in made)
        yield not_readable(subjects, "records and offsets", error)


def _examined(settings: Settings, topics: list[str]) -> Iterator[Finding]:
    spans: dict[str, dict[int, Span]] = {}
    records: list[Any] = []
    for topic in topics:
        with reader_of(settings, topic) as reader:
            spans[topic] = reader.spans()
            records += reader.read(spans[topic], READING_SECONDS, TAIL)
    yield examine_partitioner(records, {topic: len(ends) for topic, ends in spans.items()})
    yield examine_timestamps(records)
    yield examine_group(settings, spans)


def examine_partitioner(records: list[Any], counts: dict[str, int]) -> Finding:
    """Check that the newest records are in the partitions, so many of each topic, that murmur2 of their keys gives."""
    if not records:
        return Finding("partitioner", Status.skipped, "there are no records")
    faults = [
        fault
        for topic, count in counts.items()
        if (fault := _misplacement([each for each in records if each.topic == topic], count)) is not None
    ]
    if not faults:
        return Finding("partitioner", Status.ok, f"right for the {counted(len(records), 'newest record')}")
    details, remedies = zip(*faults, strict=True)
    return Finding("partitioner", Status.problem, "; ".join(details), "; ".join(dict.fromkeys(remedies)))


def _misplacement(records: list[Any], count: int) -> tuple[str, str] | None:
    """Return the problem with the partitions of one topic's records, and how to fix it; None for no problem."""
    details, remedies = [], []
    keyed = [each for each in records if each.key is not None]
    astray = [each for each in keyed if partition_of(each.key, count) != each.partition]
    if astray:
        sample, cause = astray[-1], recognise(((each.key, each.partition) for each in astray), count)
        details.append(
            f"in the wrong partition: {_share(astray, records)}, such as {_key(sample)!r} "
            f"in {sample.partition}, not {partition_of(sample.key, count)} (partitioner: {cause.name}): they become "
            "dead letters, or second beliefs of their entities with BELIEFSTREAM_REFUSE_MISPLACED=false"
        )
        remedies.append(f"{cause.remedy}; docs/producers.md has an example for each client")
    if keyless := [each for each in records if each.key is None]:
        details.append(f"without a key, and so dead letters: {_share(keyless, records)}")
        remedies.append("send the entity as the key")
    if not details:
        return None
    return f"{records[0].topic!r}: {', '.join(details)}", "; ".join(remedies)


def _share(some: list[Any], records: list[Any]) -> str:
    return f"{len(some)} of the {counted(len(records), 'newest record')} ({len(some) / len(records):.0%})"


def _key(record: Any) -> str:
    return (record.key or b"")[:80].decode(errors="replace")


def examine_timestamps(records: list[Any]) -> Finding:
    """Check for records with a time ahead of our clock; an old time may be correct."""
    if not records:
        return Finding("clocks", Status.skipped, "there are no records")
    newest = max(records, key=lambda record: record.timestamp)
    ahead = newest.timestamp / 1000 - time.time()
    if ahead <= AHEAD_SECONDS:
        return Finding("clocks", Status.ok, "no record has a time stamp in the future")
    whose = "the broker's clock" if newest.timestamp_type == 1 else "the sender's clock"
    detail = (
        f"the time stamp of a record of {_key(newest)!r} in {newest.topic!r} is {ahead:.0f} s ahead of our clock: "
        f"{whose} is ahead, or ours is behind"
    )
    remedy = "synchronise the clocks (NTP); a live time more than BELIEFSTREAM_FUTURE_TOLERANCE ahead is a dead letter"
    return Finding("clocks", Status.problem, detail, remedy)


def examine_group(settings: Settings, spans: dict[str, dict[int, Span]]) -> Finding:
    """Check that the workers' group has read everything, or makes progress."""
    places = {
        TopicPartition(topic, number): span
        for topic, found in spans.items()
        for number, span in found.items()
        if span.end > span.begin
    }
    with offsets(settings) as consumer:
        before = {place: consumer.committed(place) or places[place].begin for place in places}
        behind = {place for place in places if before[place] < places[place].end}
        still, deadline = set(behind), time.monotonic() + PATIENCE
        while still and time.monotonic() < deadline:
            time.sleep(0.5)
            still = {place for place in still if (consumer.committed(place) or 0) <= before[place]}
    if not behind:
        return Finding("group", Status.ok, f"{settings.application!r} has read everything")
    waiting = sum(places[place].end - before[place] for place in behind)
    if not still:
        return Finding(
            "group",
            Status.ok,
            f"{settings.application!r} makes progress; {counted(waiting, 'message')} waiting",
        )
    stuck = ", ".join(f"{place.topic}-{place.partition} at {before[place]}" for place in sorted(still))
    still_waiting = counted(sum(places[place].end - before[place] for place in still), "message")
    detail = f"{settings.application!r} has not moved for {PATIENCE:.0f} s: {stuck}; {still_waiting} waiting"
    remedy = "is a worker with this BELIEFSTREAM_APPLICATION running? Its /readyz and its log say what it waits for"
    return Finding("group", Status.problem, detail, remedy)
