"""Client that sets, removes and lists the definitions of sensors and models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import uuid4

import structlog
from kafka import KafkaConsumer, KafkaProducer

from beliefstream.schemas import Model, Reason, Sensor, Unusable, cloudevents, parse, parse_sensor
from beliefstream.streams.client.producers import Place, Publisher
from beliefstream.streams.kafka.connection import BrokerUnavailable, Closing, TopicReader, require_known

log = structlog.get_logger(__name__)

D = TypeVar("D")


class DefinitionConflict(RuntimeError):
    """Raised if existing definitions differ from new ones; `names` lists them."""

    def __init__(self, names: Sequence[str]) -> None:
        rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
        super().__init__(f"already defined differently: {', '.join(names[:5])}{rest}")
        self.names = tuple(names)


class Registry(Closing):
    """Client for the sensors and models that the workers use.

    >>> with Registry("localhost:9092") as registry:
    ...     registry.set_sensor(RangeSensor(sensor="beacon-1", position=(0.0, 5.0), standard_deviation=0.3))
    ...     print(registry.sensors())

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        sensors_topic: topic of sensors.
        models_topic: topic of models.
        timeout: longest time of each call, in seconds.
        source: URI reference of the sender, for the CloudEvents headers.
        **kafka_options: options that `kafka.KafkaProducer` and `kafka.KafkaConsumer` share: `security_protocol`,
            `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers in time (every method).
        TopicMissing: the broker has no such topic (every method).
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        sensors_topic: str = "sensors",
        models_topic: str = "models",
        *,
        timeout: float = 30.0,
        source: str = "/beliefstream/client",
        **kafka_options: Any,
    ) -> None:
        require_known(kafka_options, KafkaProducer, KafkaConsumer)
        self.sensors_topic = sensors_topic
        self.models_topic = models_topic
        self._servers = bootstrap_servers
        self._timeout = timeout
        self._source = source
        self._options = kafka_options
        self._publishers: dict[str, Publisher] = {}  # opened at the first change, because reading needs none

    def set_sensor(self, sensor: Sensor) -> None:
        """Define or replace a sensor; returns when the broker has acknowledged it."""
        self._set(self.sensors_topic, sensor.sensor, sensor.to_json(), cloudevents.SENSOR)

    def set_model(self, model: Model) -> None:
        """Define or replace the model of an entity, or of `*`; returns when the broker has acknowledged it."""
        self._set(self.models_topic, model.entity, model.to_json(), cloudevents.MODEL)

    def define(
        self, sensors: Iterable[Sensor] = (), models: Iterable[Model] = (), *, replace: bool = False
    ) -> None:
        """Add definitions that do not exist yet; existing equal ones stay.

        Raises:
            DefinitionConflict: some exist and differ, and are not to be replaced; nothing is written.
        """
        old_sensors, old_models = self.sensors(), self.models()
        new_sensors = [each for each in sensors if old_sensors.get(each.sensor) != each]
        new_models = [each for each in models if old_models.get(each.entity) != each]
        conflicts = [f"sensor {each.sensor!r}" for each in new_sensors if each.sensor in old_sensors]
        conflicts += [f"model of {each.entity!r}" for each in new_models if each.entity in old_models]
        if conflicts and not replace:
            raise DefinitionConflict(conflicts)
        sent = [
            self._publish(self.sensors_topic, sensor.sensor, sensor.to_json(), cloudevents.SENSOR)
            for sensor in new_sensors
        ]
        sent += [
            self._publish(self.models_topic, model.entity, model.to_json(), cloudevents.MODEL)
            for model in new_models
        ]
        for future in sent:
            self._acknowledged(future)

    def remove_sensor(self, name: str) -> None:
        """Remove a sensor; does nothing if it does not exist."""
        self._set(self.sensors_topic, name, None, cloudevents.SENSOR)

    def remove_model(self, entity: str) -> None:
        """Remove the model of an entity, which then uses the model of `*`; does nothing if it does not exist."""
        self._set(self.models_topic, entity, None, cloudevents.MODEL)

    def sensors(self) -> dict[str, Sensor]:
        """Return the current sensors by name."""
        return self._read(self.sensors_topic, parse_sensor, lambda sensor: sensor.sensor)

    def models(self) -> dict[str, Model]:
        """Return the current models by entity."""
        return self._read(self.models_topic, lambda raw: parse(Model, raw), lambda model: model.entity)

    def close(self) -> None:
        """Close the connections."""
        while self._publishers:
            self._publishers.popitem()[1].close(self._timeout)

    def _set(self, topic: str, key: str, value: bytes | None, event: str) -> None:
        self._acknowledged(self._publish(topic, key, value, event))

    def _publish(self, topic: str, key: str, value: bytes | None, event: str) -> Future[Place]:
        if topic not in self._publishers:
            self._publishers[topic] = Publisher(self._servers, topic, self._source, self._options)
        headers = cloudevents.headers(event, self._source, uuid4().hex, time.time())
        return self._publishers[topic].publish(key, value, headers)

    def _acknowledged(self, future: Future[Place]) -> None:
        try:
            future.result(self._timeout)
        except TimeoutError as error:
            raise BrokerUnavailable(self._servers, f"not acknowledged within {self._timeout:g} s") from error

    def _read(self, topic: str, read: Callable[[bytes], D], key_of: Callable[[D], str]) -> dict[str, D]:
        """Return the last valid definition of each key; as in the workers, an invalid one is skipped."""
        found: dict[str, D] = {}
        with TopicReader(self._servers, topic, self._options) as reader:
            records = reader.read_all(self._timeout)
        for record in records:
            key = (record.key or b"").decode(errors="replace")
            if record.value is None:
                found.pop(key, None)
                continue
            try:
                definition = read(record.value)
                if key_of(definition) != key:
                    raise Unusable(Reason.key_mismatch, "key mismatch")
                found[key] = definition
            except Unusable as error:
                log.warning(
                    "definition skipped", topic=topic, key=key, offset=record.offset, detail=error.detail
                )
        return found
