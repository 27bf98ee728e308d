"""Observations and priors by HTTP."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from kafka import KafkaConsumer

from beliefstream.schemas import Observation, Prior, cloudevents, parse
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE
from tests.streams.bridges.running_gateway import LINES, RunningGateway, lines, observation

PLANE = {"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [[[1.0, 0.0], [0.0, 1.0]]]}


def stored(broker: EmbeddedNode, topic: str, answer: Any) -> list[Any]:
    """The records at the places that an answer names."""
    places = [item["place"] for item in answer["items"] if "place" in item]
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    found: dict[str, Any] = {}

    def complete() -> bool:
        for part in consumer.poll(timeout_ms=200).values():
            found.update({f"{each.partition}:{each.offset}": each for each in part})
        return found.keys() >= set(places)

    try:
        eventually(complete, PATIENCE, f"{len(places)} records in {topic}")
    finally:
        consumer.close()
    return [found[place] for place in places]


def test_an_observation_is_accepted_once_it_is_in_its_partition(
    gateway: RunningGateway, embedded_broker: EmbeddedNode, topics: Names
) -> None:
    sent = observation(1)
    answer = gateway.post("/v1/observations", sent)
    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["rejected"]) == (1, 0)
    (record,) = stored(embedded_broker, topics.topics.observations, answer.json)
    assert record.key == b"mower"
    assert parse(Observation, record.value) == Observation.model_validate(sent)
    event = cloudevents.parse(record.headers)
    assert (event["id"], event["source"], event["type"]) == (
        "mower-1",
        "/beliefstream/gateway",
        cloudevents.OBSERVATION,
    )


@pytest.mark.parametrize("form", ["list", "lines"])
def test_a_batch_is_accepted_whole(
    form: str, gateway: RunningGateway, embedded_broker: EmbeddedNode, topics: Names
) -> None:
    sent = [observation(number, f"entity-{number % 7}-{form}") for number in range(250)]
    if form == "list":
        answer = gateway.post("/v1/observations", sent)
    else:
        answer = gateway.post("/v1/observations", lines(*sent).replace(b"\n", b"\r\n\n"), LINES)
    assert (answer.status, answer.json["accepted"]) == (202, 250)
    found = [
        parse(Observation, record.value)
        for record in stored(embedded_broker, topics.topics.observations, answer.json)
    ]
    assert found == [Observation.model_validate(each) for each in sent]


@pytest.mark.parametrize("form", ["list", "lines"])
def test_a_bad_item_is_named_with_field_and_value_and_the_good_ones_go_through(
    form: str, gateway: RunningGateway, embedded_broker: EmbeddedNode, topics: Names
) -> None:
    bad = [
        (observation(value="12"), "invalid", "value: Input should be a valid number or a valid array ('12')"),
        (observation(value=float("nan")), "not_finite", "value: Input should be a finite number (nan)"),
        (observation(time="soon"), "invalid_time", "'soon'"),
        (observation(entity="mo wer"), "invalid", "entity"),
        (observation(colour="red"), "invalid", "colour: Extra inputs are not permitted ('red')"),
        (7, "invalid", "message: Input should be an object (7)"),
        ({}, "invalid", "entity: Field required; sensor: Field required"),
        (
            observation(standard_deviation=-1),
            "invalid",
            "standard_deviation: Input should be greater than 0 (-1)",
        ),
    ]
    good = [observation(number, f"good-{form}") for number in range(len(bad) + 1)]
    items: list[Any] = [good[0]]
    for (wrong, _, _), right in zip(bad, good[1:], strict=True):
        items += [wrong, right]
    if form == "list":
        answer = gateway.post("/v1/observations", items)
    else:
        answer = gateway.post("/v1/observations", lines(*items), LINES)
    assert answer.status == 207
    assert (answer.json["accepted"], answer.json["rejected"]) == (len(good), len(bad))
    assert [item["index"] for item in answer.json["items"]] == list(range(len(items)))
    refused = [item for item in answer.json["items"] if item["status"] == 400]
    for item, (_, reason, part) in zip(refused, bad, strict=True):
        assert item["reason"] == reason
        assert part in item["error"]
    found = [
        parse(Observation, record.value)
        for record in stored(embedded_broker, topics.topics.observations, answer.json)
    ]
    assert found == [Observation.model_validate(each) for each in good]


def test_a_line_that_is_no_json_does_not_stop_the_others(gateway: RunningGateway) -> None:
    body = lines(observation(1)) + b'{"entity": \n' + b"\xff\xfe\n" + lines(observation(2))
    answer = gateway.post("/v1/observations", body, LINES)
    assert answer.status == 207
    assert [item["status"] for item in answer.json["items"]] == [202, 400, 400, 202]
    assert [item["reason"] for item in answer.json["items"][1:3]] == ["not_json", "not_json"]


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[1, 2", "body: "),
        (b"[]", "at least one message"),
        (b"\xff", "JSON"),
        (b"null", "Input should be an object (None)"),
        (b"[" * 5000, "body: "),
        (json.dumps(observation(value=[])).encode(), "value: "),
    ],
)
def test_a_body_without_a_good_message_is_400(body: bytes, part: str, gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/observations", body)
    assert answer.status == 400
    text = answer.json["items"][0]["error"] if "items" in answer.json else answer.json["error"]
    assert part in text


def test_a_body_that_is_not_said_to_be_json_is_415(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/observations", observation(), "application/x-www-form-urlencoded")
    assert answer.status == 415
    assert "Content-Type" in answer.json["error"] and "x-www-form-urlencoded" in answer.json["error"]
    zipped = gzip.compress(json.dumps(observation()).encode())
    assert gateway.post("/v1/observations", zipped, Content_Encoding="gzip").status == 415
    assert gateway.post("/v1/observations", observation(), "application/json; charset=utf-8").status == 202


def test_a_prior_is_accepted(gateway: RunningGateway, embedded_broker: EmbeddedNode, topics: Names) -> None:
    sent = {"entity": "mower", "time": 1769860800, "mixture": PLANE, "mode": "product"}
    answer = gateway.post("/v1/priors", sent)
    assert answer.status == 202
    (record,) = stored(embedded_broker, topics.topics.priors, answer.json)
    assert (record.key, parse(Prior, record.value)) == (b"mower", Prior.model_validate(sent))
    assert cloudevents.parse(record.headers)["type"] == cloudevents.PRIOR


def test_a_bad_prior_is_named(gateway: RunningGateway) -> None:
    mixture = {**PLANE, "covariances": [[[1.0, 2.0], [2.0, 1.0]]]}
    answer = gateway.post("/v1/priors", {"entity": "mower", "time": 1, "mixture": mixture})
    assert answer.status == 400
    (item,) = answer.json["items"]
    assert item["reason"] == "invalid_covariance"
    assert "covariances" in item["error"]


def test_messages_are_counted_by_outcome(gateway: RunningGateway) -> None:
    name = 'beliefstream_bridge_messages_total{bridge="gateway",outcome="%s",topic="observations"}'
    before = [gateway.metric(name % outcome) for outcome in ("accepted", "rejected", "failed")]
    gateway.post("/v1/observations", [observation(1), observation(2), 3])
    after = [gateway.metric(name % outcome) for outcome in ("accepted", "rejected", "failed")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 0]
    assert gateway.metric('beliefstream_bridge_in_flight_bytes{bridge="gateway"}') == 0
