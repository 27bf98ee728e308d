from __future__ import annotations

import json
from pathlib import Path

import pytest

from beliefstream.schemas import Observation, Prior, Reset, parse, parse_stated
from beliefstream.streams.client import Registry
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.kafka.topics import topic_id
from beliefstream.streams.local.simulated_fleet import fleet_model
from beliefstream.streams.settings import as_text
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Result, Run, assert_one_line
from tests.streams.workers import renamed


def sent(broker: EmbeddedNode, topic: str) -> bytes:
    with TopicReader(broker.bootstrap_servers, topic, {}) as reader:
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
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    monkeypatch.setenv("BELIEFSTREAM_TOPICS", "observations=nowhere")
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


def test_a_prior_that_does_not_fit_the_model_is_not_sent(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    def stated(entity: str, mean: str, *more: str) -> Result:
        return run("prior", "set", entity, "--mean", mean, "--standard-deviation", "1", *more)

    unchecked = stated("mower", "1,2,3")
    assert unchecked.status == 0
    assert "no model of 'mower'" in unchecked.err
    with Registry(embedded_broker.bootstrap_servers, topics.topics.sensors, topics.topics.models) as registry:
        registry.set_model(fleet_model())
        registry.set_model(fleet_model().model_copy(update={"entity": "mower", "name": "own"}))
    for entity in ("mower", "anybody"):
        assert_one_line(stated(entity, "1,2,3"), "4 coordinates (x, y, vx, vy), got 3")
        assert_one_line(stated(entity, "1", "--coordinates", "z"), "lacks z")
        assert_one_line(stated(entity, "1,2", "--coordinates", "x,speed"), "lacks speed")
        assert stated(entity, "1,2,3,4").err == ""
        assert stated(entity, "1,2", "--coordinates", "y,x").status == 0
    with TopicReader(embedded_broker.bootstrap_servers, topics.topics.priors, {}) as reader:
        assert len(reader.read_all(20)) == 1 + 2 * 2


def test_a_mixture_prior_is_sent_from_a_file(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    file = tmp_path / "mixture.json"
    file.write_text(json.dumps({"weights": [0.5, 0.5], "means": [[0], [9]], "covariances": [[[1]], [[1]]]}))
    assert run("prior", "set", "mower", "--mixture", str(file)).status == 0
    prior = parse(Prior, sent(embedded_broker, topics.topics.priors))
    assert (prior.mode, prior.mixture.components) == ("replace", 2)


def test_a_reset_names_where_the_log_of_observations_ends(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    for _ in range(2):
        place = run("observe", "mower", "gps", "1", "--no-wait").out.split()[1]
    result = run("entity", "reset", "mower", "--time", "7", "--id", "again")
    assert result.status == 0, result.err
    assert result.out.split() == [topics.topics.priors, f"{place.split(':')[0]}:0"]
    reset = parse_stated(sent(embedded_broker, topics.topics.priors))
    assert isinstance(reset, Reset)
    assert (reset.entity, reset.time, reset.id) == ("mower", 7.0, "again")
    named = reset.observations_before
    assert named is not None
    assert f"{named.partition}:{named.offset - 1}" == place
    assert named.topic_id == topic_id(embedded_broker.bootstrap_servers, topics.topics.observations)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("a mower",), "entity"),
        (("mower", "--time", "1769860800000"), "looks like milliseconds"),
        (("mower", "--time", "1e999"), "time"),
    ],
)
def test_a_bad_reset_is_not_sent(run: Run, topics: Names, arguments: tuple[str, ...], part: str) -> None:
    assert_one_line(run("entity", "reset", *arguments), part)


def test_a_reset_without_observations_is_refused(
    run: Run, topics: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    monkeypatch.setenv("BELIEFSTREAM_TOPICS", as_text(renamed(topics.topics) | {"observations": "nowhere"}))
    assert_one_line(run("entity", "reset", "mower"), "nowhere")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((), "--mean"),
        (("--mean", "1"), "--standard-deviation"),
        (("--mean", "1,x", "--standard-deviation", "1"), "1,x"),
        (("--mean", "1,2", "--standard-deviation", "1,2,3"), "expected 1 or 2"),
        (("--mean", "1", "--standard-deviation", "1", "--mode", "add"), "add"),
        *(
            (("--mean", "1,2", "--standard-deviation", wrong), "--standard-deviation: expected positive")
            for wrong in ("-1", "0", "nan", "inf", "1,-2", "-0.0")
        ),
        (("--mean", "1", "--standard-deviation", "1e-200"), "standard_deviations"),
        (("--mean", "1", "--standard-deviation", "1e200"), "standard_deviations"),
        *(
            (("--mean", wrong, "--standard-deviation", "1"), "--mean: expected finite")
            for wrong in ("nan", "1,inf", "-inf")
        ),
        (("--mean", "1,2", "--standard-deviation", "1", "--coordinates", "x"), "coordinates"),
        (("--mixture", '{"weights": [1], "means": [[0]], "covariances": [[[-1]]]}'), "covariances"),
        (("--mixture", '{"weights": [0.4], "means": [[0]], "covariances": [[[1]]]}'), "weights"),
    ],
)
def test_a_bad_prior_is_explained(run: Run, options: tuple[str, ...], part: str) -> None:
    assert_one_line(run("prior", "set", "mower", *options), part)
