"""Clients: send observations and priors, define sensors and models, read posteriors and dead letters.

They work with the base install.
"""

from __future__ import annotations

from beliefstream.streams.client.dead_letters import DeadLetterConsumer, ReceivedDeadLetter, Selection
from beliefstream.streams.client.posteriors import PosteriorConsumer
from beliefstream.streams.client.producers import ObservationProducer, Place, PriorPublisher
from beliefstream.streams.client.registry import DefinitionConflict, Registry
from beliefstream.streams.client.replaying import Replayed, Replayer
from beliefstream.streams.kafka.connection import BrokerUnavailable, TopicMissing

__all__ = [
    "BrokerUnavailable",
    "DeadLetterConsumer",
    "DefinitionConflict",
    "ObservationProducer",
    "Place",
    "PosteriorConsumer",
    "PriorPublisher",
    "ReceivedDeadLetter",
    "Registry",
    "Replayed",
    "Replayer",
    "Selection",
    "TopicMissing",
]
