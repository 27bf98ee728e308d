"""Private parts of aiokafka 0.14: of its consumers, clients, connections and batches.

**A consumer hides its client.** `AIOKafkaProducer.client` is public, but `AIOKafkaConsumer` has only `_client`. The
client is needed for requests that the consumer does not offer, and to check that it works. Fixed upstream when the
consumer has `client`.

**A client hides its connections.** `get_random_node` returns any known broker, even one that does not answer. Only the
private `_conns` shows which brokers are connected. Fixed upstream when `AIOKafkaClient` has a public method for it.

**The metadata task ends without an error.** Only the private `_sync_task` shows that a client no longer refreshes its
metadata. `fault_of` finds such a client; a worker then stops, and is restarted. Fixed upstream when the client raises,
or restarts the task.

**A write to a closed transport.** uvloop raises RuntimeError, and asyncio's own loop raises nothing; aiokafka expects
OSError. When a broker is killed, its connections are reset, and for a moment aiokafka still uses them. The error ends
the task that refreshes a client's metadata, and nothing reports that. Everything that waits for new metadata then waits
for ever: a worker stopped processing after one of three brokers was killed. `use_safe_connections` turns the error into
the one that aiokafka expects. Fixed upstream when `AIOKafkaConnection.send` handles RuntimeError.

**A client creates the topics that it asks for.** aiokafka's requests for metadata allow the broker to create them, with
the broker's own number of partitions and without compaction. So did a worker whose broker had lost its topics, and
beliefs would have expired in the changelog that it made. `use_safe_connections` forbids it. Fixed upstream when
`AIOKafkaClient` has an option for `allow_auto_topic_creation`, as kafka-python's has.

**A consumer that stops passes on a CancelledError.** `AIOKafkaConsumer.stop` cancels its fetches and awaits them. One
that waits to ask a broker again, because that is away, ends with the CancelledError. It looks as if whoever stops the
consumer had been cancelled: a thread dies of it, and connections stay open. Fixed upstream when `Fetcher.close`
suppresses it, as it does for its main task.

**The identity of a batch.** `AIOKafkaProducer.create_batch` has no argument for the producer identity, the epoch and
the sequence number of the batch. Only the private `_set_producer_state` of the batch sets them. Fixed upstream when
`create_batch`, or a public method of its batch, takes them.

**The largest request.** The producer checks a record against its `max_request_size` in `send`, but not in `send_batch`.
The value has no public name. Fixed upstream when the producer has a public attribute, or `send_batch` checks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, client as client_module
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

_send = AIOKafkaConnection.send


def _send_or_say_why(self: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
    try:
        return _send(self, *arguments, **options)
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise  # a subclass such as NotImplementedError: the broker does not know this version of the request
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


class _OfTopicsThereAre(MetadataRequest):  # type: ignore[misc]
    """A request for metadata that creates no topic."""

    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)


def use_safe_connections() -> None:
    """Apply the fixes to all of aiokafka's connections in this process."""
    AIOKafkaConnection.send = _send_or_say_why
    client_module.MetadataRequest = _OfTopicsThereAre


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


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop the consumer and close its connections, also while its brokers are away."""
    with unless_cancelled():
        await consumer.stop()
        return
    await client_of(consumer).close()


@contextmanager
def unless_cancelled() -> Iterator[None]:
    """Suppress the CancelledError of another task: it is raised only where this task has been cancelled itself."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


def set_producer_state(batch: Any, producer: int, epoch: int, first: int) -> None:
    """Write producer identity, epoch and first sequence number into a batch that is closed and not sent yet."""
    batch._set_producer_state(producer, epoch, first)


def largest_request(producer: AIOKafkaProducer) -> int:
    """The producer's `max_request_size`, in bytes."""
    size: int = producer._max_request_size
    return size
