"""Producer of observations."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from numpy.typing import ArrayLike
from pydantic import ValidationError

from beliefstream.schemas import Observation, cloudevents
from beliefstream.schemas.base import unusable
from beliefstream.streams.client.publisher import Place, Publisher, When, plain, seconds


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
            "orientation": plain(orientation),
            "id": id,
        }
        try:
            return self.send_message(Observation.model_validate(fields))
        except ValidationError as error:
            raise unusable(error) from error

    def send_message(self, observation: Observation) -> Future[Place]:
        """Send an existing observation message; see `send`."""
        event = observation.id or self.next_event()
        headers = cloudevents.headers(cloudevents.OBSERVATION, self.source, event, observation.time)
        return self.publish(observation.entity, observation.to_json(), headers)
