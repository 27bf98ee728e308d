from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from beliefstream.streams.client import (
    BrokerUnavailable,
    ObservationProducer,
    PosteriorConsumer,
    PriorPublisher,
    Registry,
    TopicMissing,
)
from beliefstream.streams.local.broker import free_port
from tests.brokers import EmbeddedNode
from tests.conftest import eventually
from tests.streams.client.topics import PATIENCE

Opener = Callable[..., Any]
OPENERS: dict[str, Opener] = {
    "ObservationProducer": ObservationProducer,
    "PriorPublisher": PriorPublisher,
    "PosteriorConsumer": PosteriorConsumer,
    "PosteriorConsumer with a group": lambda servers, **options: PosteriorConsumer(
        servers, group="group", **options
    ),
    "Registry": lambda servers, **options: Registry(servers, **options).sensors(),
    "Registry, writing": lambda servers, **options: Registry(servers, **options).remove_sensor("s"),
}
each_client = pytest.mark.parametrize("open_client", OPENERS.values(), ids=OPENERS.keys())


@each_client
def test_a_broker_that_does_not_answer_is_named(open_client: Opener) -> None:
    servers = f"127.0.0.1:{free_port()}"
    threads = threading.active_count()
    with pytest.raises(BrokerUnavailable, match=servers):
        open_client(servers, bootstrap_timeout_ms=300)
    eventually(lambda: threading.active_count() <= threads, PATIENCE, "no thread is left trying to connect")


@each_client
def test_a_topic_that_is_not_there_is_named(
    embedded_broker: EmbeddedNode, open_client: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    with pytest.raises(TopicMissing, match="there is no topic"):
        open_client(embedded_broker.bootstrap_servers)


@each_client
def test_an_option_that_kafka_does_not_know_is_refused(
    embedded_broker: EmbeddedNode, open_client: Opener
) -> None:
    with pytest.raises(ValueError, match="colour"):
        open_client(embedded_broker.bootstrap_servers, colour="green")


@each_client
def test_security_options_reach_the_connection(embedded_broker: EmbeddedNode, open_client: Opener) -> None:
    with pytest.raises(BrokerUnavailable):  # the broker speaks no TLS
        open_client(embedded_broker.bootstrap_servers, security_protocol="SSL", bootstrap_timeout_ms=500)


def test_the_clients_need_neither_torch_nor_faust() -> None:
    program = "import sys, beliefstream.streams.client; print(sorted({'torch', 'faust', 'mode'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
