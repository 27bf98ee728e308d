from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas import Observation, Prior, parse
from streams.clients.connection import Reader
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line


def sent(broker: EmbeddedNode, topic: str) -> bytes:
    with Reader(broker.bootstrap_servers, topic, {}) as reader:
        (record,) = reader.read_all(20)
        value: bytes = record.value
        return value


def test_an_observation_is_sent_as_given(run: Run, topics: Names, embedded_broker: EmbeddedNode) -> None:
    result = run(
        *("observe", "mower", "gps", "-1.5", "2", "--time", "2026-01-31T12:00:00Z"),
        *("--standard-deviation", "0.5", "--id", "first", "--no-wait"),
    )
    assert result.status == 0
    topic, place = result.out.split()
    assert topic == topics.topics.observations
    assert place.endswith(":0")
    assert parse(Observation, sent(embedded_broker, topics.topics.observations)) == Observation(
        entity="mower", sensor="gps", time=1769860800.0, value=(-1.5, 2.0), standard_deviation=0.5, id="first"
    )


def test_every_number_may_have_its_own_standard_deviation(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    sent_one = run("observe", "mower", "radar", "5", "0.2", "--standard-deviation", "0.5,0.1", "--no-wait")
    assert sent_one.status == 0
    observation = parse(Observation, sent(embedded_broker, topics.topics.observations))
    assert (observation.value, observation.standard_deviation) == ((5.0, 0.2), (0.5, 0.1))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("observe", "mower", "gps", "far"), "far"),
        (("observe", "a mower", "gps", "1"), "entity"),
        (("observe", "mower", "gps", "nan"), "value"),
        (("observe", "mower", "gps", "1", "--time", "yesterday"), "time"),
    ],
)
def test_a_bad_observation_is_not_sent(
    run: Run, topics: Names, arguments: tuple[str, ...], part: str
) -> None:
    assert_one_line(run(*arguments), part)


def test_without_topics_it_says_how_to_make_them(
    run: Run, embedded_broker: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.clients.connection.CONNECT_TIMEOUT", 2.0)
    monkeypatch.setenv("BELIEFSTREAM_OBSERVATIONS", "nowhere")
    result = run("observe", "mower", "gps", "1", "--brokers", embedded_broker.bootstrap_servers)
    assert_one_line(result, "nowhere", "topics create")


def test_a_gaussian_prior_is_sent(run: Run, topics: Names, embedded_broker: EmbeddedNode) -> None:
    result = run(
        *("prior", "set", "mower", "--mean", "-1,2", "--standard-deviation", "3"),
        *("--coordinates", "x,y", "--mode", "product", "--time", "7"),
    )
    assert result.status == 0
    prior = parse(Prior, sent(embedded_broker, topics.topics.priors))
    assert (prior.mode, prior.coordinates, prior.time) == ("product", ("x", "y"), 7.0)
    assert prior.mixture.means == ((-1.0, 2.0),)
    assert prior.mixture.covariances == (((9.0, 0.0), (0.0, 9.0)),)


def test_a_mixture_prior_is_sent_from_a_file(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    file = tmp_path / "mixture.json"
    file.write_text(json.dumps({"weights": [0.5, 0.5], "means": [[0], [9]], "covariances": [[[1]], [[1]]]}))
    assert run("prior", "set", "mower", "--mixture", str(file)).status == 0
    prior = parse(Prior, sent(embedded_broker, topics.topics.priors))
    assert (prior.mode, prior.mixture.components) == ("replace", 2)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((), "--mean"),
        (("--mean", "1"), "--standard-deviation"),
        (("--mean", "1,x", "--standard-deviation", "1"), "1,x"),
        (("--mean", "1,2", "--standard-deviation", "1,2,3"), "expected 1 or 2"),
        (("--mean", "1", "--standard-deviation", "1", "--mode", "add"), "add"),
        (("--mixture", '{"weights": [0.4], "means": [[0]], "covariances": [[[1]]]}'), "weights"),
    ],
)
def test_a_bad_prior_is_explained(run: Run, options: tuple[str, ...], part: str) -> None:
    assert_one_line(run("prior", "set", "mower", *options), part)
