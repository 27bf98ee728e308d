from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from beliefstream.streams.client import Registry
from beliefstream.streams.kafka.connection import TopicReader
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import GPS, WALKER

OWN = ("--sensors", GPS, "--models", WALKER, "--map", "value=x,y", "--set", "sensor=gps")


def times(broker: EmbeddedNode, topic: str) -> list[float]:
    with TopicReader(broker.bootstrap_servers, topic, {}) as reader:
        return sorted(json.loads(record.value)["time"] for record in reader.read_all(20))


def definitions(broker: EmbeddedNode, names: Names) -> int:
    """How many records there are of sensors and models."""
    count = 0
    for topic in (names.topics.sensors, names.topics.models):
        with TopicReader(broker.bootstrap_servers, topic, {}) as reader:
            count += len(reader.read_all(20))
    return count


def test_a_simulation_defines_what_it_needs_and_sends_in_its_time(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    assert run("models", "set", WALKER).status == 0  # of `*`, as the quick start has it
    began = time.time()
    result = run("simulate", "--entities", "3", "--duration", "4", "--rate", "5", "--speed", "4")
    took = time.time() - began
    assert result.status == 0, result.err
    seen = times(embedded_broker, topics.topics.observations)
    assert f"sent {len(seen)} observations of 3 entities" in result.out
    assert took >= (seen[-1] - seen[0]) / 4
    assert began <= seen[0] < began + took
    walker, *models = map(json.loads, run("models", "list").out.splitlines())
    assert walker["entity"] == "*"
    assert [model["entity"] for model in models] == ["entity-1", "entity-2", "entity-3"]
    assert not any(model["live_time"] for model in models)  # it runs ahead of the clock
    assert len(run("sensors", "list").out.splitlines()) == 9


@pytest.mark.parametrize(
    "command",
    [
        ("simulate", "--entities", "1", "--duration", "1", "--speed", "0"),
        ("replay", "log.csv", *OWN, "--speed", "0"),
    ],
)
def test_another_definition_is_never_replaced_unless_asked_for(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("time,entity,x,y\n1,a,0,0\n2,a,1,0\n")
    assert run(*command).status == 0
    written = definitions(embedded_broker, topics)
    assert run(*command).status == 0
    assert definitions(embedded_broker, topics) == written  # they were there already, and nothing was written
    entity = json.loads(run("models", "list").out)["entity"]
    with Registry(embedded_broker.bootstrap_servers, topics.topics.sensors, topics.topics.models) as registry:
        registry.set_model(registry.models()[entity].model_copy(update={"components": 3}))
    changed, sent = definitions(embedded_broker, topics), times(embedded_broker, topics.topics.observations)
    assert_one_line(run(*command), f"already defined differently: model of {entity!r}", "--force")
    assert definitions(embedded_broker, topics) == changed
    assert times(embedded_broker, topics.topics.observations) == sent
    assert run(*command, "--force").status == 0
    assert json.loads(run("models", "list").out)["components"] == 8


def test_wrong_options_are_explained(run: Run) -> None:
    assert_one_line(run("simulate", "--rate", "0"), "rate")
