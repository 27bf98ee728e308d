"""All that the project sends itself lies where real clients with murmur2 have put the same keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from beliefstream.schemas import Mixture, Observation, Prior
from beliefstream.streams.client import ObservationProducer, PriorPublisher
from beliefstream.streams.demo.scenario import ScheduledMessage
from beliefstream.streams.demo.stream import send_on_time
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.settings import Settings
from research.bench.end_to_end.workload import mixed, send
from research.bench.state import records as beliefs
from tests.brokers import EmbeddedNode
from tests.streams.cli.conftest import Run, run
from tests.streams.placements import KEYS, MURMUR2, PARTITIONS, placed

__all__ = ["run"]

BELONG = dict(placed(MURMUR2))
NAMES = [key.decode() for key in KEYS]
STATED = Mixture.gaussian((0.0,), 1.0)


@pytest.fixture
def own_broker() -> Iterator[EmbeddedNode]:
    """A broker of the test's own, for the demonstration sends to topics of fixed names."""
    with EmbeddedNode() as node:
        topics.create(node.bootstrap_servers, partitions=PARTITIONS)
        yield node


def check(servers: str, topic: str, least: int) -> None:
    """All records of the topic, `least` or more, lie where they belong."""
    with TopicReader(servers, topic, {}) as reader:
        records: list[Any] = reader.read_all(20)
    assert len(records) >= least
    assert {record.key for record in records} <= BELONG.keys()
    for record in records:
        assert record.partition == BELONG[record.key], record.key


def test_observations_and_priors_of_clients_demonstration_and_benchmark_lie_where_they_belong(
    own_broker: EmbeddedNode,
) -> None:
    servers = own_broker.bootstrap_servers
    with ObservationProducer(servers) as producer, PriorPublisher(servers) as publisher:
        for name in NAMES:
            producer.send(name, "gps", 1.0)
            publisher.replace(name, STATED)
    messages = [
        message
        for name in NAMES
        for message in (
            ScheduledMessage(0.0, observation=Observation(entity=name, sensor="gps", time=1.0, value=1.0)),
            ScheduledMessage(0.0, prior=Prior(entity=name, mixture=STATED, time=1.0)),
            ScheduledMessage(0.0, raw=(name, b"nonsense")),
        )
    ]
    send_on_time(servers, messages, 0.0, lambda message, now: None, threading.Event())
    work = mixed(39, 20)
    assert work.priors
    send(Settings(brokers=servers), work)
    check(servers, "observations", 3 * len(NAMES) + len(work.observations))
    check(servers, "priors", 2 * len(NAMES) + len(work.priors))


def test_what_commands_send_lies_where_it_belongs(
    own_broker: EmbeddedNode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = own_broker.bootstrap_servers
    monkeypatch.setenv("BELIEFSTREAM_BROKERS", servers)
    assert run("simulate", "--entities", "39", "--duration", "2", "--speed", "0").status == 0
    for name in NAMES[:3]:
        stated = ("--mean", "0,0,0,0", "--standard-deviation", "1")
        assert run("prior", "set", name, *stated).status == 0
    check(servers, "observations", 39)
    check(servers, "priors", 3)


def test_the_changelog_of_the_benchmark_has_each_belief_where_its_entity_belongs() -> None:
    # its names have no leading zero
    found = {record.key: record.partition for record in beliefs(40, 1, PARTITIONS, "changelog")}
    both = {f"entity-{number}".encode() for number in range(10, 40)}
    assert {key: found[key] for key in both} == {key: BELONG[key] for key in both}


def test_a_producer_of_ours_takes_no_other_partitioner() -> None:
    with pytest.raises(ValueError, match="murmur2 of the key, is allowed"):
        ObservationProducer("127.0.0.1:1", partitioner=lambda *_: 0)
