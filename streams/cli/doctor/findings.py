"""What the checks of `beliefstream doctor` share: findings, and how topics and committed offsets are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import AuthorizationError, KafkaError

from beliefstream.streams.kafka.connection import BrokerUnavailable, TopicMissing, TopicReader, connect
from beliefstream.streams.settings import Settings

READING_SECONDS = 10.0  # limit for reading records; a long changelog takes longer
NAMED = 5  # of a list
NOT_READABLE = (BrokerUnavailable, TopicMissing, KafkaError)


class Status(StrEnum):
    """The result of a check."""

    ok = "ok"
    problem = "problem"
    skipped = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result of a check of one subject; `remedy` says how to fix a problem."""

    subject: str
    status: Status
    detail: str
    remedy: str = ""


def absent(topic: str) -> str:
    """Return the reason why a check of a missing topic was skipped."""
    return f"there is no topic {topic!r}, or this user may not see it"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{rest}"


def reader_of(settings: Settings, topic: str) -> TopicReader:
    """Return a reader of the topic."""
    return TopicReader(settings.brokers, topic, settings.client_options)


@contextmanager
def offsets(settings: Settings) -> Iterator[Any]:
    """Open a consumer that sees the committed offsets of the workers' group."""
    options = {"group_id": settings.application, "enable_auto_commit": False, **settings.client_options}
    with closing(connect(KafkaConsumer, settings.brokers, options)) as consumer:
        yield consumer


def not_readable(subject: str, what: str, error: Exception) -> Finding:
    """Return the finding for one of `NOT_READABLE`."""
    if isinstance(error, AuthorizationError):
        remedy = "run it as the worker's user: deploy/SECURITY.md"
        return Finding(subject, Status.skipped, f"this user may not read {what}: {error}", remedy)
    return Finding(subject, Status.problem, f"{what} cannot be read: {error}", "look at the broker's log")
