"""The client inside aiokafka's consumer, and the connections inside a client (aiokafka 0.14).

**A consumer hides its client.** `AIOKafkaProducer.client` is public, but `AIOKafkaConsumer` has only `_client`. The
client is needed for requests that the consumer does not offer, and to check that it works. Fixed upstream when the
consumer has `client`.

**A client hides its connections.** `get_random_node` returns any known broker, even one that does not answer. Only the
private `_conns` shows which brokers are connected. Fixed upstream when `AIOKafkaClient` has a public method for it.

**The metadata task ends without an error.** Only the private `_sync_task` shows that a client no longer refreshes its
metadata (see `streams.kafka.faust.connections`). Fixed upstream when the client raises, or restarts the task.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient

__all__ = ["client_of", "connected_nodes", "fault_of"]


def client_of(consumer: AIOKafkaConsumer) -> AIOKafkaClient:
    """The consumer's client."""
    return consumer._client


def connected_nodes(client: AIOKafkaClient) -> list[Any]:
    """The ids of the brokers that the client is connected to."""
    return [node for (node, _), connection in client._conns.items() if connection.connected()]


def fault_of(client: AIOKafkaClient | None) -> str | None:
    """The error that ended the client's metadata task; None while it runs, or if it was cancelled."""
    task = client._sync_task if client is not None else None
    if task is None or not task.done() or task.cancelled():
        return None
    return repr(task.exception())
