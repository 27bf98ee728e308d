"""Ids of topics, which tell topics of the same name apart, and their numbers of partitions.

aiokafka 0.14 asks for metadata in a version without ids; this is a later one. Version 12 of the protocol came with
Kafka 3.1 (https://kafka.apache.org/protocol#The_Messages_Metadata).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, UnsupportedVersionError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streams.sending import attempts, unless

NO_ID = UUID(int=0)
METADATA, VERSION = 3, 12
ASKING_SECONDS, ANSWER_SECONDS = 60.0, 5.0  # all attempts, and each of them


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Answer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = METADATA, VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY, API_VERSION = METADATA, VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Topics(Request[_Question]):  # type: ignore[misc]
    API_KEY = METADATA

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class([(NO_ID, name, {}) for name in self._names], False, False, {})


@dataclass(frozen=True)
class TopicState:
    """State that must not change while a topic is read. `id`: from the broker; a topic created again has another."""

    id: str
    partitions: int


async def topic_states(client: AIOKafkaClient, names: Collection[str]) -> dict[str, TopicState]:
    """Return the states by name, without topics that do not exist.

    Raises:
        aiokafka.errors.KafkaError, TimeoutError: no broker has answered for a minute; or it is too old.
    """
    async for attempt in attempts(unless(UnsupportedVersionError), ASKING_SECONDS, first=0.1, longest=2.0):
        with attempt:
            return {
                name: TopicState(str(found), len(partitions))
                for _, name, found, _, partitions, *_ in await _ask(client, _node(client), names)
                if found != NO_ID
            }
    raise AssertionError("unreachable")


async def without_leader(client: AIOKafkaClient, node: Any, names: Collection[str]) -> list[str]:
    """Return the partitions of these topics without a leader, as "topic-partition"; asks once.

    Args:
        node: the id of the broker to ask.

    Raises:
        aiokafka.errors.KafkaError, TimeoutError: it has not answered within 5 s.
    """
    topics = await _ask(client, node, names)
    return sorted(
        f"{name}-{partition}"
        for _, name, _, _, partitions, *_ in topics
        for _, partition, leader, *_ in partitions
        if leader < 0
    )


def nodes(client: AIOKafkaClient) -> list[Any]:
    """The ids of all known brokers, connected ones first."""
    connected = {node for (node, _), connection in client._conns.items() if connection.connected()}
    known = {broker.nodeId for broker in client.cluster.brokers()} | connected
    return sorted(known, key=lambda node: (node not in connected, str(node)))


async def _ask(client: AIOKafkaClient, node: Any, names: Collection[str]) -> Any:
    """Ask one broker for the metadata of these topics."""
    if node is None:
        raise NodeNotReadyError("no broker is known")
    async with asyncio.timeout(ANSWER_SECONDS):
        try:
            answer = await client.send(node, _Topics(names))
        except NotImplementedError as error:
            raise UnsupportedVersionError(
                "the broker does not say the ids of topics: Kafka 3.1 or later is needed"
            ) from error
    return answer.topics


def changes(before: Mapping[str, TopicState], now: Mapping[str, TopicState]) -> list[str]:
    """Describe what has changed about these topics; a missing topic is no change yet."""
    found = []
    for name, known in before.items():
        state = now.get(name, known)
        if state.id != known.id:
            found.append(f"{name!r} was made again")
        elif state != known:
            found.append(f"{name!r} has {state.partitions} partitions now, not {known.partitions}")
    return found


def _node(client: AIOKafkaClient) -> Any:
    """A connected broker, if there is one: another may not answer."""
    connected = [node for (node, _), connection in client._conns.items() if connection.connected()]
    return random.choice(connected) if connected else client.get_random_node()
