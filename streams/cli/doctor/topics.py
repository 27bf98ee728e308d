"""Checks the topics at the broker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection

from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import AuthorizationError

from beliefstream.schemas import Reason, printable, to_rfc3339
from beliefstream.streams.cli.doctor.findings import NOT_READABLE, Finding, Status, absent
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.remedies import remedy_for, remedy_for_topics
from beliefstream.streams.cli.setup import opened
from beliefstream.streams.client.dead_letters import DeadLetterConsumer, ReceivedDeadLetter
from beliefstream.streams.kafka.topics import UNPACKED, TopicError, administration, check
from beliefstream.streams.settings import Settings

SUBJECT = "dead-letters"
PERIOD_SECONDS = 3600.0
READING_SECONDS = 10.0  # limit for counting letters; a flood takes longer
LONGEST = 80  # characters shown of a name


def examine_topics(settings: Settings) -> Finding:
    """Check that the topics exist and have the right settings."""
    place, options = (settings.brokers, settings.names), settings.client_options
    try:
        problems = check(*place, partitions=settings.partitions, **options)
        compressed = [] if problems else kept_compressed(settings)
    except TopicError as error:
        return Finding("topics", Status.problem, str(error), "look at the broker's log")
    if not problems:
        there = f"all exist, {counted(settings.partitions, 'partition')}"
        if compressed:
            there += f"; only workers unpack compressed batches (deploy/SECURITY.md): {', '.join(compressed)}"
        return Finding("topics", Status.ok, there)
    return Finding("topics", Status.problem, " ".join(problems), remedy_for_topics(problems))


def missing_topics(settings: Settings) -> frozenset[str]:
    """Return the topics that do not exist, or that this user may not see; empty if the broker lists none."""
    try:
        with administration(settings.brokers, settings.client_options) as admin:
            described = admin.describe_topics(list(settings.names))
    except TopicError:
        return frozenset()
    return frozenset(topic["name"] for topic in described if topic["error_code"] != 0)


def kept_compressed(settings: Settings) -> list[str]:
    """Return topics whose compressed batches the broker does not unpack before workers read them; raises TopicError.

    This is fine if every sender is trusted. So `check` does not report it, and workers start.
    """
    names = settings.names
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names.read_by_workers]
    with administration(settings.brokers, settings.client_options) as admin:
        found = admin.describe_configs(resources, config_filter="all").get("topic", {})
    kept = {name: entries.get("compression.type", {}).get("value") for name, entries in found.items()}
    return [name for name in names.read_by_workers if kept.get(name) != UNPACKED]


def examine_dead_letters(settings: Settings, missing: Collection[str] = frozenset()) -> Finding:
    """Report the dead letters of the last hour by reason, the newest of each, and what to do."""
    if settings.names.dead_letters in missing:
        return Finding(SUBJECT, Status.skipped, absent(settings.names.dead_letters))
    counts: Counter[Reason] = Counter()
    newest: ReceivedDeadLetter | None = None
    deadline, is_all = time.monotonic() + READING_SECONDS, True
    try:
        since = time.time() - PERIOD_SECONDS
        with opened(DeadLetterConsumer, settings, settings.names.dead_letters, since=since) as consumer:
            for newest in consumer.stored():
                counts[newest.letter.reason] += 1
                if time.monotonic() > deadline:
                    is_all = False
                    break
    except AuthorizationError as error:
        detail = f"this user may not read {settings.names.dead_letters!r}: {error}"
        return Finding(SUBJECT, Status.skipped, detail, "run it as an operator: deploy/SECURITY.md")
    except NOT_READABLE as error:
        return Finding(SUBJECT, Status.problem, f"cannot be read: {error}", "look at the broker's log")
    if newest is None:
        return Finding(SUBJECT, Status.ok, "none in the last hour")
    by_reason = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    more = "" if is_all else "more than "
    detail = f"{more}{counts.total()} in the last hour: {by_reason}; {_example(newest, is_all)}"
    most, _ = counts.most_common(1)[0]
    remedy = f"{most}: {remedy_for(most)}; all: beliefstream dead-letters --summary --since 1h"
    return Finding(SUBJECT, Status.problem, detail, remedy)


def _example(received: ReceivedDeadLetter, is_newest: bool) -> str:
    letter = received.letter
    names = (("entity", received.entity), ("sensor", received.sensor))
    whose = "".join(f", {what} {name[:LONGEST]!r}" for what, name in names if name is not None)
    what = "the newest" if is_newest else "one"
    place = f"{letter.topic} {letter.partition}:{letter.offset}"
    text = f"{what} at {to_rfc3339(received.time)[:19]}Z from {place}{whose}: {letter.detail}"
    return printable(text)
