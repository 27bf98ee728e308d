"""Producer of priors and resets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Literal

from kafka import KafkaAdminClient
from kafka.partitioner import murmur2
from pydantic import ValidationError

from beliefstream.schemas import LogPosition, Mixture, Prior, Reset, cloudevents
from beliefstream.schemas.base import unusable
from beliefstream.streams.client.publisher import Place, Publisher, When, seconds
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.kafka.topics import topic_id


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
        return self._send("replace", entity, mixture, time, coordinates, id)

    def product(
        self,
        entity: str,
        mixture: Mixture,
        time: When | None = None,
        coordinates: Sequence[str] | None = None,
        id: str | None = None,
    ) -> Future[Place]:
        """Multiply the belief by the mixture, as independent evidence; arguments and errors are as for `replace`."""
        return self._send("product", entity, mixture, time, coordinates, id)

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
        try:
            message = Reset.model_validate(fields)
        except ValidationError as error:
            raise unusable(error) from error
        return self.send_message(message.model_copy(update={"observations_before": self._end(entity)}))

    def _end(self, entity: str) -> LogPosition:
        """Return the current end of the partition with the entity's observations."""
        with TopicReader(self.servers, self._observations, self._options) as reader:
            servers = self.servers if isinstance(self.servers, str) else ",".join(self.servers)
            log_id = topic_id(servers, self._observations, **_for_admin(self._options))
            partition = (murmur2(entity.encode()) & 0x7FFFFFFF) % len(reader.partitions)
            return LogPosition(topic_id=log_id, partition=partition, offset=reader.end(partition))

    def send_message(self, message: Prior | Reset) -> Future[Place]:
        """Send an existing prior or reset message."""
        event = message.id or self.next_event()
        kind = cloudevents.RESET if isinstance(message, Reset) else cloudevents.PRIOR
        headers = cloudevents.headers(kind, self.source, event, message.time)
        return self.publish(message.entity, message.to_json(), headers)

    def _send(
        self,
        mode: Literal["replace", "product"],
        entity: str,
        mixture: Mixture,
        time: When | None,
        coordinates: Sequence[str] | None,
        id: str | None,
    ) -> Future[Place]:
        fields = {"entity": entity, "mixture": mixture, "time": seconds(time), "mode": mode, "id": id}
        if coordinates is not None:
            fields["coordinates"] = tuple(coordinates)
        try:
            return self.send_message(Prior.model_validate(fields))
        except ValidationError as error:
            raise unusable(error) from error


def _for_admin(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that an admin client knows."""
    return {name: value for name, value in options.items() if name in KafkaAdminClient.DEFAULT_CONFIG}
