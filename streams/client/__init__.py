"""Clients: send observations and priors, define sensors and models, read posteriors and dead letters.

They work with the base install.
"""

from __future__ import annotations

from beliefstream.streams.client.dead_letters import (
    DeadLetterConsumer as DeadLetterConsumer,
    ReceivedDeadLetter as ReceivedDeadLetter,
    Selection as Selection,
)
from beliefstream.streams.client.posteriors import PosteriorConsumer as PosteriorConsumer
from beliefstream.streams.client.producers import (
    ObservationProducer as ObservationProducer,
    Place as Place,
    PriorPublisher as PriorPublisher,
)
from beliefstream.streams.client.registry import (
    DefinitionConflict as DefinitionConflict,
    Registry as Registry,
)
from beliefstream.streams.client.replaying import Replayed as Replayed, Replayer as Replayer
from beliefstream.streams.kafka.connection import (
    BrokerUnavailable as BrokerUnavailable,
    TopicMissing as TopicMissing,
)
