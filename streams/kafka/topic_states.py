"""Asks brokers for the ids of topics, their numbers of partitions, and partitions without a leader."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import NodeNotReadyError, UnknownTopicOrPartitionError, UnsupportedVersionError

from beliefstream.streams.kafka.aiokafka_clients import connected_nodes
from beliefstream.streams.kafka.producing import attempts, retry_unless
from beliefstream.streams.kafka.topic_metadata import NO_ID, MetadataRequest

ASKING_SECONDS, ANSWER_SECONDS = 60.0, 5.0  # for all attempts, and for each


@dataclass(frozen=True)
class TopicState:
    """The state of a topic that must not change while it is read.

    Attributes:
        id: the broker's id of the topic; a topic that is deleted and created again gets another.
        partitions: the number of partitions.
    """

    id: str
    partitions: int


async def topic_states(client: AIOKafkaClient, names: Collection[str]) -> dict[str, TopicState]:
    """Return the states of topics by name, without topics that do not exist.

    Raises:
        aiokafka.errors.KafkaError, TimeoutError: no broker has answered for a minute, or the broker is too old.
    """
    async for attempt in attempts(
        retry_unless(UnsupportedVersionError), ASKING_SECONDS, first=0.1, longest=2.0
    ):
        with attempt:
            return {
                name: TopicState(str(found), len(partitions))
                for _, name, found, _, partitions, *_ in await _ask(client, _node(client), names)
                if found != NO_ID
            }
    raise AssertionError("unreachable")


def require(names: Collection[str], found: Mapping[str, TopicState]) -> None:
    """Raise UnknownTopicOrPartitionError that names those topics that were not found."""
    if missing := [name for name in names if name not in found]:
        raise UnknownTopicOrPartitionError(f"topics that do not exist: {', '.join(missing)}")


async def without_leader(client: AIOKafkaClient, node: Any, names: Collection[str]) -> list[str]:
    """Ask once, and return the partitions of these topics without a leader, as "topic-partition".

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
    connected = set(connected_nodes(client))
    known = {broker.nodeId for broker in client.cluster.brokers()} | connected
    return sorted(known, key=lambda node: (node not in connected, str(node)))


async def _ask(client: AIOKafkaClient, node: Any, names: Collection[str]) -> Any:
    """Ask one broker for the metadata of these topics."""
    if node is None:
        raise NodeNotReadyError("no broker is known")
    async with asyncio.timeout(ANSWER_SECONDS):
        try:
            answer = await client.send(node, MetadataRequest(names))
        except NotImplementedError as error:
            raise UnsupportedVersionError(
                "the broker does not report topic ids: Kafka 3.1 or later is needed"
            ) from error
    return answer.topics


def changes(before: Mapping[str, TopicState], now: Mapping[str, TopicState]) -> list[str]:
    """Describe what has changed about these topics; a missing topic does not count as a change."""
    found = []
    for name, known in before.items():
        state = now.get(name, known)
        if state.id != known.id:
            found.append(f"{name!r} was deleted and created again")
        elif state != known:
            found.append(f"{name!r} has {state.partitions} partitions now, not {known.partitions}")
    return found


def _node(client: AIOKafkaClient) -> Any:
    """Return a connected broker if there is one, because others may not answer."""
    connected = connected_nodes(client)
    return random.choice(connected) if connected else client.get_random_node()
