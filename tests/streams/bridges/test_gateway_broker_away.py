"""While the broker is away nothing is accepted; when it is back, the gateway goes on by itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Observation, parse
from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode, KafkaNode
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE, Answer
from tests.streams.bridges.running_gateway import RunningGateway, observation, running
from tests.streams.cli.conftest import (
    NOBODY,
    Run,
    assert_one_line,
    run as run,  # the fixture
)
from tests.streams.client.topics import posterior, put, records

SETTINGS = {"acknowledge_seconds": "2"}


def assert_refused(answer: Answer) -> None:
    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"


@pytest.mark.chaos
@pytest.mark.kafka
def test_nothing_that_was_accepted_is_lost_when_the_broker_is_killed(names: Names, tmp_path: Path) -> None:
    with KafkaNode() as broker:
        create(broker.bootstrap_servers, names.topics, partitions=3)
        with running(broker, names, tmp_path, **SETTINGS) as gateway:
            accepted = [number for number in range(20) if is_accepted(gateway, number)]
            assert len(accepted) == 20
            broker.kill()
            for number in range(20, 25):
                assert_refused(gateway.post("/v1/observations", observation(number)))
            eventually(lambda: gateway.get("/readyz").status == 503, PATIENCE, "it is not ready")
            began = time.monotonic()
            assert_refused(gateway.post("/v1/priors", b"{}"))
            assert time.monotonic() - began < 1  # once it is known, nobody waits
            assert gateway.get("/healthz").status == 200
            broker.start()
            eventually(lambda: is_accepted(gateway, 25), PATIENCE, "it goes on")
            eventually(gateway.is_ready, PATIENCE, "it is ready")
            accepted += [25, *(number for number in range(26, 40) if is_accepted(gateway, number))]
            assert len(accepted) == 35
            stored = [
                parse(Observation, each.value).id for each in records(broker, names.topics.observations, 35)
            ]
            assert {f"mower-{number}" for number in accepted} <= {*stored}
            assert len(stored) == len({*stored})
            follows_posteriors(gateway, broker, names)


def is_accepted(gateway: RunningGateway, number: int) -> bool:
    answer = gateway.post("/v1/observations", observation(number))
    assert answer.status in (202, 503), answer.json
    return answer.status == 202


def follows_posteriors(gateway: RunningGateway, broker: KafkaNode, names: Names) -> None:
    from kafka import KafkaProducer

    producer: Any = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    put(producer, names.topics.posteriors, posterior(7))
    producer.close()
    eventually(
        lambda: gateway.get("/v1/posteriors/mower").status == 200, PATIENCE, "a posterior after it all"
    )


@pytest.mark.chaos
def test_an_emptied_broker_is_used_again_once_it_has_the_topics(names: Names, tmp_path: Path) -> None:
    with EmbeddedNode() as broker:
        create(broker.bootstrap_servers, names.topics, partitions=3)
        with running(broker, names, tmp_path, **SETTINGS) as gateway:
            assert is_accepted(gateway, 0)
            broker.stop()
            answer = gateway.post("/v1/observations", [observation(1), {}, observation(2)])
            assert_refused(answer)
            assert [item["status"] for item in answer.json["items"]] == [503, 400, 503]
            broker.start()
            create(broker.bootstrap_servers, names.topics, partitions=3)
            eventually(lambda: is_accepted(gateway, 3), PATIENCE, "it goes on")


def test_without_a_broker_it_does_not_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.CONNECT_TIMEOUT", 0.2)
    assert_one_line(run("gateway", "--port", "0"), NOBODY)


def test_without_its_topics_it_does_not_start(
    run: Run, embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    monkeypatch.setenv("BELIEFSTREAM_TOPICS", f"observations={names.topics.observations}")
    result = run("gateway", "--port", "0", "--brokers", embedded_broker.bootstrap_servers)
    assert_one_line(result, names.topics.observations, "beliefstream topics create")
