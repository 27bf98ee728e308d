"""The workers' consumer group, as the broker knows it: how many workers there are, and how many messages wait."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import GroupIdNotFoundError, KafkaError

from beliefstream.streams.kafka.connection import connect, find_partitions

log = structlog.get_logger(__name__)

STABLE = "Stable"


@dataclass(frozen=True)
class GroupState:
    """What is known of the group; None for what is not."""

    workers: int | None = None  # members of the group
    lag: int | None = None  # messages between what the group has committed and the end
    note: str = "not asked yet"  # why something is not known, or that the group is divided anew; or empty


class GroupReader:
    """Asks the broker; connects with the first question, and again after an error.

    The group, which has the application's name, reads the topics. Options are those of kafka-python's clients.
    """

    def __init__(self, servers: str, group: str, topics: Sequence[str], **options: Any) -> None:
        self._servers, self._group, self._topics, self._options = servers, group, topics, options
        self._admin: Any = None
        self._consumer: Any = None
        self._places: list[TopicPartition] = []
        self._problem = ""

    def read(self, ends: Mapping[TopicPartition, int] | None = None) -> GroupState:
        """Ask; an error of the broker is in the note. What it reports as an end may be before those known here."""
        try:
            self._open()
            workers, note = self._members()
            return GroupState(workers, self._lag(ends or {}), note)
        except (KafkaError, OSError, LookupError) as error:
            self.close()
            problem = f"{type(error).__name__}: {error}"
            if problem != self._problem:
                log.warning("the workers' group cannot be read", group=self._group, error=problem)
            self._problem = problem
            return GroupState(note=problem)

    def close(self) -> None:
        """Close the connections."""
        for client in (self._admin, self._consumer):
            if client is not None:
                with contextlib.suppress(KafkaError, OSError):
                    client.close()
        self._admin = self._consumer = None

    def _open(self) -> None:
        if self._consumer is not None:
            return
        self._admin = connect(_Admin, self._servers, self._known(KafkaAdminClient))
        settings = self._known(KafkaConsumer) | {"group_id": None, "enable_auto_commit": False}
        self._consumer = connect(KafkaConsumer, self._servers, settings)
        self._places = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in find_partitions(self._consumer, topic, self._servers, 1.0)
        ]

    def _known(self, client: Any) -> dict[str, Any]:
        return {name: value for name, value in self._options.items() if name in client.DEFAULT_CONFIG}

    def _members(self) -> tuple[int, str]:
        found = self._admin.describe_groups([self._group])[self._group]
        if found["error"] and GroupIdNotFoundError.__name__ in found["error"]:
            return 0, ""  # nobody has ever joined
        if found["error"]:
            raise KafkaError(found["error"])
        members, state = found["members"], found["group_state"]
        return len(members), "" if state == STABLE or not members else f"the group is {state}"

    def _lag(self, known: Mapping[TopicPartition, int]) -> int:
        committed = self._admin.list_group_offsets([self._group])[self._group]
        begins = self._consumer.beginning_offsets(self._places)
        ends = self._consumer.end_offsets(self._places)
        done = {place: committed[place].offset if place in committed else -1 for place in self._places}
        return sum(
            max(0, max(ends[place], known.get(place, 0)) - max(done[place], begins[place]))
            for place in self._places
        )


class _Admin(KafkaAdminClient):  # type: ignore[misc]
    """Does not read the rights in an answer: those of the embedded broker name operations that Kafka does not have."""

    def _process_acl_operations(self, described: dict[str, Any]) -> dict[str, Any]:
        described.pop("authorized_operations", None)
        return described
