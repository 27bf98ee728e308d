from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer

from beliefstream.streams.kafka.topics import TopicNames, create
from tests.brokers import Broker
from tests.conftest import Names


@pytest.fixture
def topics(broker: Broker, names: Names) -> TopicNames:
    create(broker.bootstrap_servers, names.topics, partitions=3)
    return names.topics


@pytest.fixture
def raw(broker: Broker) -> Iterator[Any]:
    """A plain producer, which puts what is sent before a flush into one batch a partition."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, linger_ms=20)
    yield producer
    producer.close()
