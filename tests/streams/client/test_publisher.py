from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from kafka.errors import MessageSizeTooLargeError

from beliefstream.schemas import Mixture, Observation, Prior, Unusable, cloudevents, parse
from beliefstream.streams.client import BrokerUnavailable, ObservationProducer, Place, PriorPublisher
from beliefstream.streams.kafka.topics import TopicNames, create
from tests.brokers import Broker, EmbeddedNode
from tests.conftest import Names
from tests.streams.client.topics import PATIENCE, PLANE, records


def test_an_observation_is_sent_with_key_value_and_headers(broker: Broker, topics: TopicNames) -> None:
    with ObservationProducer(broker.bootstrap_servers, topics.observations, source="/test") as producer:
        future = producer.send("mower", "beacon-1", 12.5, time=3.25, standard_deviation=0.3, id="o-1")
        place = future.result(PATIENCE)
    [record] = records(broker, topics.observations, 1)
    assert place == Place(topics.observations, record.partition, record.offset)
    assert record.key == b"mower"
    assert parse(Observation, record.value) == Observation(
        entity="mower", sensor="beacon-1", time=3.25, value=12.5, standard_deviation=0.3, id="o-1"
    )
    attributes = cloudevents.parse(record.headers)
    assert (attributes["id"], attributes["source"], attributes["type"]) == (
        "o-1",
        "/test",
        cloudevents.OBSERVATION,
    )
    assert attributes["time"] == "1970-01-01T00:00:03.250000Z"


def test_an_observation_states_where_its_sensor_was(broker: Broker, topics: TopicNames) -> None:
    with ObservationProducer(broker.bootstrap_servers, topics.observations) as producer:
        place = np.array([3.0, 4.0])
        producer.send("buoy", "camera", 0.5, time=1.0, position=place, orientation=0.25).result(PATIENCE)
        with pytest.raises(Unusable, match=r"position\[1\]: Input should be a finite number"):
            producer.send("buoy", "camera", 0.5, position=[3.0, float("nan")])
    [record] = records(broker, topics.observations, 1)
    assert parse(Observation, record.value) == Observation(
        entity="buoy", sensor="camera", time=1.0, value=0.5, position=(3.0, 4.0), orientation=0.25
    )


def test_observations_of_an_entity_stay_in_order_in_one_partition(broker: Broker, topics: TopicNames) -> None:
    with ObservationProducer(broker.bootstrap_servers, topics.observations) as producer:
        for number in range(300):
            producer.send(f"entity-{number % 3}", "gps", float(number), time=float(number))
    found = records(broker, topics.observations, 300)
    for key in (b"entity-0", b"entity-1", b"entity-2"):
        own = [record for record in found if record.key == key]
        assert len({record.partition for record in own}) == 1
        times = [parse(Observation, record.value).time for record in own]
        assert times == sorted(times)
        assert len(times) == 100


def test_time_is_now_or_as_given_in_any_form(broker: Broker, topics: TopicNames) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=0.5)
    before = time.time()
    with ObservationProducer(broker.bootstrap_servers, topics.observations) as producer:
        for when in (None, moment, moment.isoformat(), moment.timestamp()):
            producer.send("mower", "gps", 1.0, time=when)
    times = [parse(Observation, record.value).time for record in records(broker, topics.observations, 4)]
    assert before <= times[0] <= time.time()
    assert times[1:] == [moment.timestamp()] * 3


def test_arrays_are_taken_for_values_and_covariances(broker: Broker, topics: TopicNames) -> None:
    with ObservationProducer(broker.bootstrap_servers, topics.observations) as producer:
        producer.send("mower", "gps", np.array([1.0, 2.0], "f4"), time=0.0, covariance=np.eye(2))
    [record] = records(broker, topics.observations, 1)
    observation = parse(Observation, record.value)
    assert (observation.value, observation.covariance) == ((1.0, 2.0), ((1.0, 0.0), (0.0, 1.0)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"value": float("nan")}, r"not_finite: value: .*\(nan\)"),
        ({"time": datetime(2026, 1, 1)}, r"invalid_time: time: .*\('2026-01-01T00:00:00'\)"),
        ({"entity": "a b"}, r"invalid: entity: .*\('a b'\)"),
        ({"value": [1, 2], "covariance": [[1, 2], [2, 1]]}, "invalid_covariance: covariance"),
    ],
)
def test_what_is_no_observation_is_refused_before_it_is_sent(
    embedded_broker: EmbeddedNode, names: Names, arguments: dict[str, Any], message: str
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=1)
    fields: dict[str, Any] = {"entity": "mower", "sensor": "gps", "value": 1.0, "time": 0.0, **arguments}
    with ObservationProducer(embedded_broker.bootstrap_servers, names.topics.observations) as producer:
        with pytest.raises(Unusable, match=message):
            producer.send(**fields)
        assert producer.send("mower", "gps", 1.0).result(PATIENCE).offset == 0


def test_a_message_beyond_the_limit_is_refused(embedded_broker: EmbeddedNode, names: Names) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=1)
    with (
        ObservationProducer(
            embedded_broker.bootstrap_servers, names.topics.observations, max_request_size=100
        ) as producer,
        pytest.raises(MessageSizeTooLargeError),
    ):
        producer.send("mower", "gps", 1.0)


def test_a_broker_that_goes_away_fails_the_future_and_the_flush(names: Names) -> None:
    with EmbeddedNode() as broker:
        create(broker.bootstrap_servers, names.topics, partitions=1)
        producer = ObservationProducer(
            broker.bootstrap_servers,
            names.topics.observations,
            delivery_timeout_ms=1500,
            request_timeout_ms=1000,
        )
        producer.send("mower", "gps", 1.0).result(PATIENCE)
    future = producer.send("mower", "gps", 2.0)
    with pytest.raises(BrokerUnavailable, match=broker.bootstrap_servers):
        future.result(PATIENCE)
    with pytest.raises(BrokerUnavailable, match=broker.bootstrap_servers):
        producer.flush(PATIENCE)
    producer.flush(PATIENCE)  # said once
    producer.close(timeout=0)


def test_priors_replace_or_multiply(broker: Broker, topics: TopicNames) -> None:
    with PriorPublisher(broker.bootstrap_servers, topics.priors) as publisher:
        publisher.replace("mower", PLANE, time=1.0, id="p-1").result(PATIENCE)
        publisher.product("mower", PLANE, time=2.0, coordinates=["x", "y"]).result(PATIENCE)
    first, second = records(broker, topics.priors, 2)
    assert first.key == second.key == b"mower"
    assert parse(Prior, first.value) == Prior(entity="mower", mixture=PLANE, time=1.0, id="p-1")
    assert parse(Prior, second.value) == Prior(
        entity="mower", mixture=PLANE, time=2.0, mode="product", coordinates=("x", "y")
    )
    assert cloudevents.parse(first.headers)["type"] == cloudevents.PRIOR


def test_a_prior_over_other_coordinates_than_its_mixture_is_refused(
    embedded_broker: EmbeddedNode, names: Names
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=1)
    with (
        PriorPublisher(embedded_broker.bootstrap_servers, names.topics.priors) as publisher,
        pytest.raises(Unusable, match="coordinates"),
    ):
        publisher.replace("mower", PLANE, coordinates=["x"])


def test_a_prior_of_the_largest_size_passes(broker: Broker, topics: TopicNames) -> None:
    count, size = 256, 16
    generator = np.random.default_rng(0)
    factors = generator.normal(size=(count, size, size))
    mixture = Mixture.model_validate(
        {
            "weights": np.full(count, 1 / count),
            "means": generator.normal(size=(count, size)),
            "covariances": factors @ factors.mT + np.eye(size),
        }
    )
    with PriorPublisher(broker.bootstrap_servers, topics.priors) as publisher:
        publisher.replace("mower", mixture, time=0.0).result(PATIENCE)
    [record] = records(broker, topics.priors, 1)
    assert len(record.value) > 2**20  # the limit of Kafka's own default
    assert parse(Prior, record.value).mixture == mixture
