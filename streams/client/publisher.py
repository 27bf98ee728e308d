"""Base class of the producers."""

from __future__ import annotations

import threading
import time as clock
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import structlog
from kafka import KafkaProducer
from kafka.errors import KafkaConnectionError, KafkaTimeoutError

from beliefstream.streams.kafka.connection import (
    BrokerUnavailable,
    TopicReader,
    connect,
    connect_timeout,
    require_known,
)
from beliefstream.streams.kafka.topics import MESSAGE_BYTES

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT = 5.0  # seconds for messages in flight when an exception ends the `with` block

When = float | str | datetime
"""A time: seconds since the epoch, RFC 3339 with an offset, or a datetime with a time zone."""


@dataclass(frozen=True)
class Place:
    """Position of a message in Kafka: topic, partition and offset."""

    topic: str
    partition: int
    offset: int


class Publisher:
    """Sends messages to one topic, idempotently and acknowledged by all replicas.

    It is thread-safe.
    """

    def __init__(
        self, bootstrap_servers: str | list[str], topic: str, source: str, kafka_options: dict[str, Any]
    ) -> None:
        require_known(kafka_options, KafkaProducer)
        if "partitioner" in kafka_options:  # a record outside its key's partition becomes a dead letter
            raise ValueError("partitioner: only kafka-python's default, murmur2 of the key, is allowed")
        self.topic = topic
        self.source = source
        self.servers = bootstrap_servers
        self._failure: BaseException | None = None
        self._events, self._numbers = uuid4().hex, count(1)
        self._lock = threading.Lock()
        defaults = {
            "acks": "all",
            "enable_idempotence": True,
            "max_block_ms": connect_timeout(kafka_options) * 1000,
            "max_request_size": MESSAGE_BYTES,
        }
        TopicReader(bootstrap_servers, topic, kafka_options).close()  # raises if the topic does not exist
        self._producer: Any = connect(KafkaProducer, bootstrap_servers, {**defaults, **kafka_options})

    def publish(
        self,
        key: str | bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> Future[Place]:
        """Send a record; a value of None removes the key from a compacted topic.

        Without `partition` the key determines the partition.

        Raises:
            BrokerUnavailable: the buffer is full because the broker has not answered for a while.
        """
        content = key.encode() if isinstance(key, str) else key
        try:
            record = self._producer.send(
                self.topic, value=value, key=content, headers=headers, partition=partition
            )
        except KafkaTimeoutError as error:
            raise BrokerUnavailable(self.servers, error) from error
        outcome: Future[Place] = Future()
        outcome.set_running_or_notify_cancel()
        record.add_callback(lambda sent: outcome.set_result(Place(sent.topic, sent.partition, sent.offset)))
        record.add_errback(lambda error: outcome.set_exception(self._failed(error)))
        return outcome

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all messages are acknowledged, at most `timeout` seconds.

        Raises:
            BrokerUnavailable: they are not acknowledged in that time.
            Exception: the error of the first message that could not be sent since the last flush; the future of that
                message has it too.
        """
        try:
            self._producer.flush(timeout=timeout)
        except KafkaTimeoutError as error:
            raise BrokerUnavailable(self.servers, error) from error
        with self._lock:
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self, timeout: float | None = None) -> None:
        """Send all buffered messages, within `timeout` seconds, and close the connection."""
        self._producer.close(timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.close(CLOSE_TIMEOUT)
            return
        try:
            self.flush()
        finally:
            self.close()

    def next_event(self) -> str:
        """Return a unique identifier; a new UUID for each message would cost a system call."""
        return f"{self._events}-{next(self._numbers)}"

    def _failed(self, error: BaseException) -> BaseException:
        if isinstance(error, (KafkaTimeoutError, KafkaConnectionError)):
            error = BrokerUnavailable(self.servers, error)
        log.error("message not sent", topic=self.topic, error=str(error))
        with self._lock:
            self._failure = self._failure or error
        return error


def seconds(time: When | None) -> float | str:
    """Return a time as the schemas take it; now if None."""
    if time is None:
        return clock.time()
    if isinstance(time, datetime):
        return time.isoformat()  # without a time zone it has no offset, and the schema rejects it
    return time


def plain(value: Any) -> Any:
    """Convert arrays (numpy, torch) to lists."""
    return value.tolist() if hasattr(value, "tolist") else value
