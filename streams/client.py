"""Clients of Beliefstream: send observations and priors, define sensors and models, read posteriors and dead letters.

They need Kafka and the base install only.
"""

from __future__ import annotations

from streams.clients.connection import BrokerUnavailable, TopicMissing
from streams.clients.dead_letters import DeadLetterConsumer
from streams.clients.posteriors import PosteriorConsumer
from streams.clients.publishing import ObservationProducer, Place, PriorPublisher
from streams.clients.received import ReceivedDeadLetter, Selection
from streams.clients.registry import DefinitionConflict, Registry
from streams.clients.replaying import Replayed, Replayer

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
