"""Fixes for the connections of aiokafka 0.14: broken ones can stop a client for ever, and clients create topics.

**A write to a closed transport.** uvloop raises RuntimeError, and asyncio's own loop raises nothing; aiokafka expects
OSError. When a broker is killed, its connections are reset, and for a moment aiokafka still uses them. The error ends
the task that refreshes a client's metadata, and nothing reports that. Everything that waits for new metadata then waits
for ever: a worker stopped processing after one of three brokers was killed. `use_safe_connections` turns the error into
the one that aiokafka expects. Fixed upstream when `AIOKafkaConnection.send` handles RuntimeError.

**A client creates the topics that it asks for.** aiokafka's requests for metadata allow the broker to create them, with
the broker's own number of partitions and without compaction. So did a worker whose broker had lost its topics, and
beliefs would have expired in the changelog that it made. `use_safe_connections` forbids it. Fixed upstream when
`AIOKafkaClient` has an option for `allow_auto_topic_creation`, as kafka-python's has.

`streams.kafka.aiokafka_clients.fault_of` finds a client whose metadata task has ended for any reason. The worker then
stops and is restarted.

**Faust hides its producer and its clients (Faust 0.15.3).** Faust sends every record through a task and a future, and
has no method for other requests to brokers. So a worker uses the aiokafka producer and clients in the app. They have no
public names: `Producer._producer`, `Consumer._thread._consumer`. Fixed upstream when Faust's producer and consumer have
public attributes for them.
"""

from __future__ import annotations

from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer, client
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from beliefstream.streams.kafka.aiokafka_clients import client_of

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
    client.MetadataRequest = _OfTopicsThereAre


async def started_producer(app: faust.App) -> AIOKafkaProducer:
    """Return the app's producer, and start it if needed."""
    return (await app.maybe_start_producer())._producer


def producer_client(app: faust.App) -> AIOKafkaClient | None:
    """The client of the app's producer; None before its start and after its end."""
    producer = cast(Any, app.producer)._producer
    return producer.client if producer else None


def clients(app: faust.App) -> list[AIOKafkaClient]:
    """The clients of the app's producer and consumer, if these are started."""
    consumer = cast(Any, app.consumer)._thread._consumer
    reading = client_of(consumer) if consumer else None
    return [client for client in (producer_client(app), reading) if client]
