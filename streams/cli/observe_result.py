"""Waits for the result of one observation: its posterior, or its dead letter."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from beliefstream.schemas import DeadLetter, Posterior
    from beliefstream.streams.client.publisher import Place
    from beliefstream.streams.settings import Settings

POLL_SECONDS = 0.1  # for each of the two topics in turn
CONTROL_SECONDS = 3.0  # a control has no posterior; a dead letter would arrive within this time


class ObservationResult:
    """Waits for the result of an observation; create this before the observation is sent.

    Raises CommandError if posteriors or dead letters cannot be read.
    """

    def __init__(self, settings: Settings, entity: str) -> None:
        from kafka.errors import KafkaError

        from beliefstream.streams.client import (
            BrokerUnavailable,
            DeadLetterConsumer,
            PosteriorConsumer,
            TopicMissing,
        )

        options = settings.client_options
        self._stack = ExitStack()
        try:
            self._posteriors = self._stack.enter_context(
                PosteriorConsumer(settings.brokers, settings.posteriors, entities=[entity], **options)
            )
            self._letters = self._stack.enter_context(
                DeadLetterConsumer(settings.brokers, settings.dead_letters, **options)
            )
        except (BrokerUnavailable, TopicMissing, KafkaError) as error:
            self._stack.close()
            raise CommandError(f"nothing was sent: {error}; --no-wait sends without waiting") from None

    def wait(self, place: Place, id: str | None, timeout: float) -> Posterior | DeadLetter | None:
        """Return the posterior or dead letter of the observation; None if neither arrives in time.

        Args:
            place: topic, partition and offset of the observation.
            id: the id of the observation, if it has one.
            timeout: seconds.
        """
        name = id or f"{place.partition}:{place.offset}"
        source = (place.topic, place.partition, place.offset)
        deadline = time.monotonic() + timeout
        while True:
            for posterior in self._posteriors.poll(POLL_SECONDS):
                if name in posterior.applied:
                    return posterior
            for received in self._letters.poll(POLL_SECONDS):
                letter = received.letter
                if (letter.topic, letter.partition, letter.offset) == source:
                    return letter
            if time.monotonic() > deadline:
                return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def is_control(settings: Settings, sensor: str) -> bool:
    """Whether the sensor is a control, which has no posteriors; False if its definition cannot be read."""
    from kafka.errors import KafkaError

    from beliefstream.schemas import ControlSensor
    from beliefstream.streams.client import BrokerUnavailable, Registry, TopicMissing

    options = settings.client_options
    try:
        with Registry(settings.brokers, settings.sensors, settings.models, **options) as registry:
            return isinstance(registry.sensors().get(sensor), ControlSensor)
    except (BrokerUnavailable, TopicMissing, KafkaError):
        return False
