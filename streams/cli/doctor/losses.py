"""Checks the workers' counters and the logs for lost, refused and implausible messages."""

from __future__ import annotations

import math
import urllib.error
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition

from beliefstream.schemas import Reason, printable
from beliefstream.streams.cli.doctor.findings import (
    NOT_READABLE,
    READING_SECONDS,
    Finding,
    Status,
    not_readable,
    offsets,
    reader_of,
)
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.remedies import remedy_for
from beliefstream.streams.kafka.connection import BrokerUnavailable, Span
from beliefstream.streams.monitoring.scraping import Snapshot, scrape
from beliefstream.streams.settings import Settings

SUBJECT = "losses"
CHANCE = 3.0  # deviations of a Poisson count above what is expected
SHOWN = 3  # labels listed in a line
RUNBOOK = "deploy/RUNBOOK.md, "
LOG_FAULTS = {
    "emptied": ("time", "the changelog had lost beliefs; they were computed again"),
    "gone": ("partition", "with lost beliefs whose messages no longer exist: these beliefs start again"),
    "remade": ("time", "a topic was deleted and created again"),
    "cut": ("time", "a log had lost messages that beliefs contain"),
}
LOST = "raise the topic's retention, and have the messages sent again; deploy/RUNBOOK.md, MessagesLost"
CUT = "workers repair this when they start; deploy/RUNBOOK.md, LogDamaged"
DAMAGED = (
    "stop the workers, write a record without a value for that key to that partition, and start them again; the entity "
    "then starts from the model's prior, or from one that you set"
)
STRANGE = (
    "run the version of Beliefstream that wrote them, or start again with another BELIEFSTREAM_APPLICATION"
)


@dataclass(frozen=True)
class _Counter:
    """A counter that is 0 without losses."""

    name: str  # in Prometheus
    label: str  # by which its counts are shown
    noun: str  # of what it counts
    what: str  # which of them, with `{label}`
    remedy: str
    values: Collection[str] = ()  # of the label to check; empty for all
    expected: str = ""  # another counter by the same label, of those that are no loss


COUNTERS = (
    _Counter(
        "beliefstream_lost_offsets_total",
        "topic",
        "message",
        "of {label!r} deleted before a worker had read that far",
        f"raise the topic's retention, and have the messages sent again; {RUNBOOK}MessagesLost",
    ),
    *(
        _Counter(
            "beliefstream_log_faults_total",
            "fault",
            noun,
            f"{words} ({{label}})",
            f"find out who changed the topics; {RUNBOOK}LogDamaged",
            (fault,),
        )
        for fault, (noun, words) in LOG_FAULTS.items()
    ),
    _Counter(
        "beliefstream_stalls_total",
        "",
        "time",
        "a worker has stopped because it was stalled with messages waiting",
        f"its log names the partitions, `partitions are stalled`; {RUNBOOK}Stalled",
    ),
    _Counter(
        "beliefstream_misplaced_records_total",
        "topic",
        "record",
        "of {label!r} in the wrong partition",
        "fix the producer's partitioner: docs/producers.md has an example for each client",
    ),
    *(
        _Counter(
            "beliefstream_dead_letters_total",
            "reason",
            "message",
            f"refused, because {words} ({{label}})",
            f"{remedy_for(reason)}; beliefstream dead-letters --reason {reason}",
            (reason,),
        )
        for reason, words in (
            (Reason.future, "the time was in the future"),
            (Reason.impossible, "the sensor cannot report such a value"),
        )
    ),
    _Counter(
        "beliefstream_implausible_total",
        "sensor",
        "observation",
        "of {label!r}, beyond its outlier_probability, more than 100 standard deviations from every prediction",
        "check the sensor's definition: position, scale, standard_deviation, outlier_probability",
        expected="beliefstream_expected_outliers_total",
    ),
)


def examine_losses(
    settings: Settings, urls: Sequence[str], missing: Collection[str] | None = frozenset()
) -> Iterator[Finding]:
    """Report each loss as a problem, or that there is none, and what could not be checked.

    The counters of the workers at these URLs start at 0 when they start. `missing` is None if no broker answers.
    """
    clean, skipped = [], []
    for what, findings in _looks(settings, urls, missing):
        found = list(_readable(what, findings))
        yield from (each for each in found if each.status is Status.problem)
        skipped += [each for each in found if each.status is Status.skipped]
        if not found:
            clean.append(what)
    if clean:
        yield Finding(SUBJECT, Status.ok, f"none by {', '.join(clean)}")
    yield from skipped


def _readable(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings, or why they cannot be made."""
    try:
        yield from findings
    except ModuleNotFoundError as error:
        detail = f"{what}: {error.name} is missing"
        yield Finding(SUBJECT, Status.skipped, detail, "pip install 'beliefstream[worker]'")
    except NOT_READABLE as error:
        yield not_readable(SUBJECT, what, error)


def _looks(
    settings: Settings, urls: Sequence[str], missing: Collection[str] | None
) -> Iterator[tuple[str, Iterator[Finding]]]:
    for url in urls:
        what = f"the counters of the worker at {url}"
        yield what, _counted(settings, url, what)
    if missing is None:
        return
    sources = [
        topic for topic in (settings.names.observations, settings.names.priors) if topic not in missing
    ]
    if sources:
        yield "the workers' offsets", examine_offsets(settings, sources)
    if settings.names.beliefs_changelog not in missing:
        yield "the changelog", examine_changelog(settings)


def _counted(settings: Settings, url: str, what: str) -> Iterator[Finding]:
    hint = ""
    try:
        snapshot = scrape(url, settings.token)
    except urllib.error.HTTPError as error:
        reason = f"it answers {error.code} {error.reason}"
        hint = "set BELIEFSTREAM_WEB_TOKEN" if error.code == 401 else ""
    except (OSError, ValueError, RuntimeError) as error:
        reason = f"it does not answer: {getattr(error, 'reason', error)}"
    else:
        yield from _above_zero(snapshot, url)
        return
    yield Finding(SUBJECT, Status.skipped, f"{what}: {reason}", hint)


def _above_zero(snapshot: Snapshot, url: str) -> Iterator[Finding]:
    for counter in COUNTERS:
        counts = (
            snapshot.by(counter.name, counter.label) if counter.label else {"": snapshot.total(counter.name)}
        )
        expected = snapshot.by(counter.expected, counter.label)
        some = {
            label: count - mean
            for label, count in counts.items()
            if label in (counter.values or counts)
            and count > (mean := expected.get(label, 0.0)) + CHANCE * math.sqrt(mean)
        }
        if some:
            yield _finding(counter, some, url)


def _finding(counter: _Counter, counts: Mapping[str, float], url: str) -> Finding:
    order = sorted(counts, key=lambda label: -counts[label])
    lines = [
        f"{counted(round(counts[label]), counter.noun)} {counter.what.format(label=label[:80])}"
        for label in order[:SHOWN]
    ]
    more = f"; {len(order) - SHOWN} more with {round(sum(counts[each] for each in order[SHOWN:]))}"
    summary = "; ".join(lines) + (more if len(order) > SHOWN else "")
    return Finding(SUBJECT, Status.problem, printable(f"{summary} (since {url} started)"), counter.remedy)


def examine_offsets(settings: Settings, topics: Sequence[str]) -> Iterator[Finding]:
    """Report messages deleted before the workers' group read them, and logs that end before its offsets."""
    for topic in topics:
        before = _committed(settings, topic)
        with reader_of(settings, topic) as reader:
            spans = reader.spans()
        # in this order, because the workers continue to read, and the log grows
        yield from _deleted(settings, topic, spans, _committed(settings, topic))
        yield from _truncated(topic, spans, before)


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
        detail = (
            f"{counted(count, 'message')} deleted before {settings.application!r} had read that far: {places}"
        )
        yield Finding(SUBJECT, Status.problem, detail, LOST)


def _truncated(topic: str, spans: Mapping[int, Span], committed: Mapping[int, int]) -> Iterator[Finding]:
    cut = {number: done for number, done in committed.items() if done > spans[number].end}
    if cut:
        places = ", ".join(
            f"{topic}-{number} ends at {spans[number].end} and was read up to {done}"
            for number, done in cut.items()
        )
        detail = f"{counted(len(cut), 'partition')} created again, or without the end that was read: {places}"
        yield Finding(SUBJECT, Status.problem, detail, CUT)


def examine_changelog(settings: Settings) -> Iterator[Finding]:
    """Report beliefs that no worker can read."""
    from beliefstream.streams.state.codec import DamagedRecord, UnknownVersion

    topic = settings.names.beliefs_changelog
    faults, whole = _unreadable(settings, topic)
    for kind, fault, remedy in (
        (DamagedRecord, "damaged: a worker stops at the entity's next message", DAMAGED),
        (UnknownVersion, "of another version: no worker starts", STRANGE),
    ):
        some = [(place, fault) for place, fault in faults.items() if isinstance(fault, kind)]
        if some:
            examples = "; ".join(
                f"{key[:80].decode(errors='replace')!r} in partition {partition}, {fault}"
                for (partition, key), fault in some[:SHOWN]
            )
            detail = printable(f"{counted(len(some), 'record')} of {topic!r} {fault}: {examples}")
            yield Finding(SUBJECT, Status.problem, detail, remedy)
    if not whole:
        detail = f"the changelog is too long to read in {READING_SECONDS:.0f} s, the rest was not checked"
        yield Finding(SUBJECT, Status.skipped, detail)


def _unreadable(settings: Settings, topic: str) -> tuple[dict[tuple[int, bytes], Exception], bool]:
    """Return faults of the newest record of each key, by partition and key, and whether the whole topic was read."""
    faults: dict[tuple[int, bytes], Exception] = {}
    with reader_of(settings, topic) as reader:
        spans = reader.spans()
        try:
            for record in reader.read(spans, READING_SECONDS):
                place = (record.partition, record.key or b"")
                faults.pop(place, None)
                if (fault := _fault(record)) is not None:
                    faults[place] = fault
        except BrokerUnavailable:
            return faults, False
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
    with offsets(settings) as consumer:
        found = {
            number: consumer.committed(TopicPartition(topic, number))
            for number in consumer.partitions_for_topic(topic) or ()
        }
    return {number: done for number, done in found.items() if done is not None}
