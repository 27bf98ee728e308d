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
"""

from __future__ import annotations

from typing import Any

from aiokafka import client
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

__all__ = ["use_safe_connections"]

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
