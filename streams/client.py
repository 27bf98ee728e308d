"""Clients of Beliefstream: send observations and priors, define sensors and models, read posteriors.

They need Kafka and the base install only.
"""

from __future__ import annotations

from streams.clients.connection import BrokerUnavailable, TopicMissing
from streams.clients.posteriors import PosteriorConsumer
from streams.clients.publishing import ObservationProducer, Place, PriorPublisher
from streams.clients.registry import DefinitionConflict, Registry

__all__ = [
    "BrokerUnavailable",
    "DefinitionConflict",
    "ObservationProducer",
    "Place",
    "PosteriorConsumer",
    "PriorPublisher",
    "Registry",
    "TopicMissing",
]
