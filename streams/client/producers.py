"""Base class of the producers."""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from types import TracebackType
from typing import Any
from uuid import uuid4

import structlog
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaConnectionError, KafkaTimeoutError
from numpy.typing import ArrayLike

from beliefstream.schemas import LogPosition, Mixture, Observation, Prior, Reset, cloudevents
from beliefstream.schemas.base import validated
from beliefstream.streams.kafka.connection import (
    BrokerUnavailable,
    Closing,
    TopicReader,
    connect,
    connect_timeout,
    require_known,
)
from beliefstream.streams.kafka.partitioners import partition_of
from beliefstream.streams.kafka.topics import MESSAGE_BYTES, topic_id

log = structlog.get_logger(__name__)
CLOSE_TIMEOUT = 5.0  # seconds for messages in flight when an exception ends the `with` block

When = float | str | datetime
"""A time: seconds since the epoch, RFC 3339 with an offset, or a datetime with a time zone."""


@dataclass(frozen=True)
class Place:
    """Position of a message in Kafka; as text topic/partition:offset."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}:{self.offset}"


class Publisher(Closing):
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


class ObservationProducer(Publisher):
    """Sends observations.

    >>> with ObservationProducer("localhost:9092") as producer:
    ...     producer.send("mower", "beacon-1", 12.5, standard_deviation=0.3)

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        topic: topic of observations.
        source: URI reference of the sender, for the CloudEvents headers.
        **kafka_options: options of `kafka.KafkaProducer`, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers within 10 s (option `bootstrap_timeout_ms`).
        TopicMissing: the broker has no such topic.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        topic: str = "observations",
        *,
        source: str = "/beliefstream/client",
        **kafka_options: Any,
    ) -> None:
        super().__init__(bootstrap_servers, topic, source, kafka_options)

    def send(
        self,
        entity: str,
        sensor: str,
        value: float | Sequence[float] | ArrayLike,
        time: When | None = None,
        standard_deviation: float | Sequence[float] | ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        id: str | None = None,
        *,
        position: Sequence[float] | ArrayLike | None = None,
        velocity: Sequence[float] | ArrayLike | None = None,
        orientation: float | Sequence[float] | ArrayLike | None = None,
    ) -> Future[Place]:
        """Send one observation without waiting; the future is done when the broker has acknowledged it.

        Args:
            entity: observed entity.
            sensor: name of the sensor.
            value: reported number or numbers, in the units of the sensor.
            time: time of the observed state; now if None.
            standard_deviation: standard deviation of all numbers or one each; the sensor's if None.
            covariance: covariance of the numbers, (D, D), instead of a standard deviation; the sensor's if None.
            id: identifier of your choice, which the posterior repeats.
            position: position of the sensor at that time, if it moves; the sensor's if None.
            velocity: velocity of a satellite at that time, for a pseudorange rate.
            orientation: orientation of the sensor at that time, in radians; the sensor's if None.

        Raises:
            beliefstream.schemas.Unusable: the observation is invalid; the message names the field and the value.
            BrokerUnavailable: the buffer is full because the broker has not answered for a while.
        """
        fields = {
            "entity": entity,
            "sensor": sensor,
            "time": seconds(time),
            "value": plain(value),
            "standard_deviation": plain(standard_deviation),
            "covariance": plain(covariance),
            "position": plain(position),
            "velocity": plain(velocity),
            "orientation": plain(orientation),
            "id": id,
        }
        return self.send_message(validated(Observation, fields))

    def send_message(self, observation: Observation) -> Future[Place]:
        """Send an existing observation message; see `send`."""
        event = observation.id or self.next_event()
        headers = cloudevents.headers(cloudevents.OBSERVATION, self.source, event, observation.time)
        return self.publish(observation.entity, observation.to_json(), headers)


class PriorPublisher(Publisher):
    """Sends priors and resets.

    Arguments and errors are as for `ObservationProducer`. The additional argument `observations` is the topic that
    resets refer to.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        topic: str = "priors",
        *,
        observations: str = "observations",
        source: str = "/beliefstream/client",
        **kafka_options: Any,
    ) -> None:
        super().__init__(bootstrap_servers, topic, source, kafka_options)
        self._observations, self._options = observations, kafka_options

    def replace(
        self,
        entity: str,
        mixture: Mixture,
        time: When | None = None,
        coordinates: Sequence[str] | None = None,
        id: str | None = None,
    ) -> Future[Place]:
        """Replace the belief by the mixture at `time`.

        Args:
            entity: entity of the prior.
            mixture: stated prior, in the units of the coordinates.
            time: time of the prior; now if None.
            coordinates: names of the mixture's coordinates; all of the model's if None.
            id: identifier of your choice.

        Raises:
            beliefstream.schemas.Unusable: an argument is invalid; the message names the field and the value.
        """
        return self._send(
            time, mode="replace", entity=entity, mixture=mixture, coordinates=coordinates, id=id
        )

    def product(
        self,
        entity: str,
        mixture: Mixture,
        time: When | None = None,
        coordinates: Sequence[str] | None = None,
        id: str | None = None,
    ) -> Future[Place]:
        """Multiply the belief by the mixture, as independent evidence; arguments and errors are as for `replace`."""
        return self._send(
            time, mode="product", entity=entity, mixture=mixture, coordinates=coordinates, id=id
        )

    def reset(self, entity: str, time: When | None = None, id: str | None = None) -> Future[Place]:
        """Forget an entity: its belief, its history, and priors with a later time.

        Observations now in the log are forgotten too, even those that no worker has read yet. The next observation
        starts from the model's prior, whatever its time.

        Args:
            entity: entity to forget.
            time: time of the posterior that reports the reset; now if None.
            id: identifier of your choice; of several resets with the same id only the first is applied.

        Raises:
            beliefstream.schemas.Unusable: an argument is invalid; the message names the field and the value.
            BrokerUnavailable: the broker does not report the end of the observations.
            TopicMissing: the topic of observations does not exist.
            TopicError: the broker refuses to report the topic's id.
        """
        fields = {"entity": entity, "reset": True, "time": seconds(time), "id": id}
        message = validated(Reset, fields)
        return self.send_message(message.model_copy(update={"observations_before": self._end(entity)}))

    def _end(self, entity: str) -> LogPosition:
        """Return the current end of the partition with the entity's observations."""
        with TopicReader(self.servers, self._observations, self._options) as reader:
            servers = self.servers if isinstance(self.servers, str) else ",".join(self.servers)
            known = {
                name: self._options[name] for name in self._options.keys() & KafkaAdminClient.DEFAULT_CONFIG
            }
            log_id = topic_id(servers, self._observations, **known)
            partition = partition_of(entity.encode(), len(reader.partitions))
            return LogPosition(topic_id=log_id, partition=partition, offset=reader.end(partition))

    def send_message(self, message: Prior | Reset) -> Future[Place]:
        """Send an existing prior or reset message."""
        event = message.id or self.next_event()
        kind = cloudevents.RESET if isinstance(message, Reset) else cloudevents.PRIOR
        headers = cloudevents.headers(kind, self.source, event, message.time)
        return self.publish(message.entity, message.to_json(), headers)

    def _send(self, time: When | None, coordinates: Sequence[str] | None, **fields: Any) -> Future[Place]:
        fields |= {"time": seconds(time), "coordinates": None if coordinates is None else tuple(coordinates)}
        return self.send_message(validated(Prior, fields))
