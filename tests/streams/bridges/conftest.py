"""A gateway on the embedded broker, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode
from tests.conftest import Names, unique_names
from tests.streams.bridges.running_gateway import RunningGateway, running


@pytest.fixture(scope="module")
def topics(embedded_broker: EmbeddedNode) -> Names:
    """Topics of this file's own."""
    found = unique_names()
    create(embedded_broker.bootstrap_servers, found.topics, partitions=3)
    return found


@pytest.fixture(scope="module")
def gateway(
    embedded_broker: EmbeddedNode, topics: Names, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    with running(embedded_broker, topics, tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(scope="module")
def raw(embedded_broker: EmbeddedNode) -> Iterator[Any]:
    """A plain producer."""
    producer = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    yield producer
    producer.close()
