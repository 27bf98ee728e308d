from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import MessageSizeTooLargeError
from structlog.testing import capture_logs

from schemas import (
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    Prior,
    Quality,
    RandomWalk,
    RangeSensor,
    Unusable,
    cloudevents,
    parse,
)
from streams.broker import free_port
from streams.client import (
    BrokerUnavailable,
    ObservationProducer,
    Place,
    PosteriorConsumer,
    PriorPublisher,
    Registry,
    TopicMissing,
)
from streams.topics import TopicNames, create
from tests.brokers import Broker, EmbeddedNode
from tests.conftest import Names, eventually

PATIENCE = 30.0  # seconds; enough for a busy machine
QUIET = 1.0  # seconds without a message after which a test takes the topic to be read
PLANE = Mixture.gaussian([0.0, 0.0], 1.0)


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


def records(broker: Broker, topic: str, count: int) -> list[Any]:
    """The first `count` records of a topic, by offset within each partition."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    found: list[Any] = []

    def complete() -> bool:
        for part in consumer.poll(timeout_ms=200).values():
            found.extend(part)
        return len(found) >= count

    try:
        eventually(complete, PATIENCE, f"{count} records in {topic}")
    finally:
        consumer.close()
    return found


def posterior(sequence: int, entity: str = "mower", **changes: Any) -> Posterior:
    fields: dict[str, Any] = {
        "entity": entity,
        "time": float(sequence),
        "sequence": sequence,
        "revision": 0,
        "coordinates": (Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        "mixture": PLANE,
        "quality": Quality(effective_sample_size=0.9, log_evidence=-1.5, surprise=0.4, method="transformer"),
        "applied": (f"0:{sequence}",),
        "prior_sequence": 0,
        "model": "planar",
        "model_version": 1,
        **changes,
    }
    return Posterior(**fields)


def put(raw: Any, topic: str, *posteriors: Posterior, partition: int | None = 0) -> None:
    for each in posteriors:
        raw.send(topic, key=each.entity.encode(), value=each.to_json(), partition=partition)
    raw.flush()


def sequences(posteriors: list[Posterior]) -> list[int]:
    return [each.sequence for each in posteriors]


def drain(consumer: PosteriorConsumer, count: int) -> list[Posterior]:
    """The next `count` posteriors, and any that come within a short while after them."""
    found: list[Posterior] = []

    def complete() -> bool:
        found.extend(consumer.poll(0.2))
        return len(found) >= count

    eventually(complete, PATIENCE, f"{count} posteriors")
    return found + consumer.poll(QUIET)


# ObservationProducer


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


# PriorPublisher


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


# PosteriorConsumer


def test_posteriors_are_read_from_the_beginning_with_their_types(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    sent = [posterior(1), posterior(2), posterior(3)]
    put(raw, topics.posteriors, *sent)
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, from_beginning=True, timeout=5
    ) as found:
        assert [next(found), next(found), next(found)] == sent


def test_a_consumer_begins_where_the_topic_ended_when_it_was_made(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 11)))
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors) as consumer:
        put(raw, topics.posteriors, posterior(11))  # before the first read
        assert sequences(drain(consumer, 1)) == [11]


def test_only_the_entities_asked_for_are_given_out(broker: Broker, topics: TopicNames, raw: Any) -> None:
    for number in range(1, 4):
        put(
            raw, topics.posteriors, *(posterior(number, entity) for entity in ("a", "b", "c")), partition=None
        )
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, entities=["a", "c"], from_beginning=True
    ) as consumer:
        found = drain(consumer, 6)
    assert sorted((each.entity, each.sequence) for each in found) == [
        (entity, number) for entity in ("a", "c") for number in (1, 2, 3)
    ]


def test_an_iteration_ends_after_the_timeout_and_may_be_taken_up_again(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, posterior(1))
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, from_beginning=True, timeout=QUIET
    ) as consumer:
        assert sequences(list(consumer)) == [1]
        assert list(consumer) == []
        put(raw, topics.posteriors, posterior(2))
        assert sequences(list(consumer)) == [2]


def test_a_poll_gives_out_no_more_than_asked_for(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 6)))
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert sequences(consumer.poll(PATIENCE, most=2)) == [1, 2]
        assert sequences(consumer.poll(0, most=10)) == [3, 4, 5]
        assert consumer.poll(0) == []


def test_a_record_that_is_no_posterior_is_logged_and_passed_over(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, posterior(1))
    for value in (b"{", None, b'{"entity":"mower"}'):
        raw.send(topics.posteriors, key=b"mower", value=value, partition=0)
    put(raw, topics.posteriors, posterior(2))
    with (
        capture_logs() as logs,
        PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer,
    ):
        assert sequences(drain(consumer, 2)) == [1, 2]
    assert [(entry["offset"], entry["reason"]) for entry in logs if "offset" in entry] == [
        (1, "not_json"),
        (2, "not_json"),
        (3, "invalid"),
    ]


def test_what_was_sent_twice_is_given_out_once(broker: Broker, topics: TopicNames, raw: Any) -> None:
    first, other = posterior(1), posterior(1, "other")
    second = posterior(2)
    third, revised = posterior(3), posterior(3, revision=1)
    put(raw, topics.posteriors, first, first, second, other, second, third, revised, third, second, other)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert drain(consumer, 5) == [first, second, other, third, revised]


def test_what_was_sent_again_with_more_observations_is_given_out(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    less, more = posterior(2), posterior(2, applied=("0:2", "0:3"), time=3.0)
    put(raw, topics.posteriors, less, more, more)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert drain(consumer, 2) == [less, more]


def test_a_belief_begun_anew_is_given_out(broker: Broker, topics: TopicNames, raw: Any) -> None:
    sent = [posterior(1), posterior(2), posterior(3), posterior(1, time=100.0), posterior(2, time=101.0)]
    put(raw, topics.posteriors, *sent)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert drain(consumer, 5) == sent


# PosteriorConsumer with a group


# A member that died is missed after this time; on the embedded broker one that joins waits for half of it.
SESSION = {"session_timeout_ms": 1500, "heartbeat_interval_ms": 300}


def grouped(broker: Broker, topics: TopicNames, **options: Any) -> PosteriorConsumer:
    defaults: dict[str, Any] = {"group": topics.posteriors, "from_beginning": True, "timeout": PATIENCE}
    return PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, **{**defaults, **SESSION, **options}
    )


def test_a_group_goes_on_where_it_was(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 11)))
    with grouped(broker, topics) as consumer:
        assert sequences([next(consumer) for _ in range(4)]) == [1, 2, 3, 4]
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 6)) == [5, 6, 7, 8, 9, 10]
    with grouped(broker, topics) as consumer:
        assert consumer.poll(2 * QUIET) == []


def test_what_was_not_finished_when_an_exception_came_is_given_out_again(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 4)))

    def fail_at_the_second() -> None:
        with grouped(broker, topics) as consumer:
            for each in consumer:
                if each.sequence == 2:
                    raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_at_the_second()
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 2)) == [2, 3]


def test_a_commit_counts_what_was_given_out(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 4)))

    def fail_after_a_commit() -> None:
        with grouped(broker, topics) as consumer:
            assert next(consumer).sequence == 1
            consumer.commit()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_a_commit()
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 2)) == [2, 3]


def test_a_new_group_that_took_nothing_keeps_its_place(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, posterior(1))
    with grouped(broker, topics, from_beginning=False) as consumer:
        put(raw, topics.posteriors, posterior(2))  # before it has joined the group
        assert sequences(drain(consumer, 1)) == [2]
    put(raw, topics.posteriors, posterior(1, "other"), partition=1)  # where nothing was ever taken
    with grouped(broker, topics, from_beginning=False) as consumer:
        assert [each.entity for each in drain(consumer, 1)] == ["other"]


def test_duplicates_are_recognised_across_a_restart(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, posterior(1), posterior(2))
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 2)) == [1, 2]
    put(raw, topics.posteriors, posterior(2), posterior(3))
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 1)) == [3]


def test_members_of_a_group_share_the_partitions(broker: Broker, topics: TopicNames, raw: Any) -> None:
    found: list[tuple[int, int]] = []
    stop = threading.Event()

    def member(number: int) -> None:
        with grouped(broker, topics) as consumer:
            while not stop.is_set():
                found.extend((number, each.sequence) for each in consumer.poll(0.2))

    threads = [threading.Thread(target=member, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    sent = 0

    def both_have_some() -> bool:
        nonlocal sent
        put(raw, topics.posteriors, *(posterior(sent + 1, f"e{part}") for part in range(3)), partition=None)
        for part in range(3):
            put(raw, topics.posteriors, posterior(sent + 1, f"p{part}"), partition=part)
        sent += 1
        return {number for number, _ in found[-12:]} == {0, 1}

    try:
        eventually(both_have_some, PATIENCE, "both members get posteriors")
        eventually(lambda: len(found) >= 6 * sent, PATIENCE, "all are given out")
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    for number in range(1, sent + 1):
        assert sum(sequence == number for _, sequence in found) >= 6


KILLED = """
    import os, sys
    from streams.client import PosteriorConsumer
    servers, topic, stop_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = {"session_timeout_ms": 1500, "heartbeat_interval_ms": 300}
    for posterior in PosteriorConsumer(servers, topic, group=topic, from_beginning=True, **options):
        print(posterior.sequence, flush=True)
        if posterior.sequence == stop_at:
            os.kill(os.getpid(), 9)
"""


def test_a_killed_consumer_loses_nothing(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 101)))
    program = [
        sys.executable,
        "-c",
        textwrap.dedent(KILLED),
        broker.bootstrap_servers,
        topics.posteriors,
        "60",
    ]
    run = subprocess.run(program, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert run.returncode == -9
    before = [int(line) for line in run.stdout.split()]
    assert before == list(range(1, 61))
    with grouped(broker, topics) as consumer:
        after = sequences(drain(consumer, 41))  # the killed member's session must end first
    assert after == list(range(after[0], 101))
    assert after[0] <= 60


# Registry


def test_sensors_and_models_are_set_replaced_and_removed(broker: Broker, topics: TopicNames) -> None:
    beacon = RangeSensor(sensor="beacon", position=(1.0, 2.0), standard_deviation=0.3)
    gps = PositionSensor(sensor="gps", standard_deviation=2.0)
    everyone = model("*")
    with Registry(broker.bootstrap_servers, topics.sensors, topics.models) as registry:
        assert (registry.sensors(), registry.models()) == ({}, {})
        for sensor in (gps, beacon, better := gps.model_copy(update={"standard_deviation": 1.0})):
            registry.set_sensor(sensor)
        registry.set_model(everyone)
        registry.set_model(model("mower"))
        assert registry.sensors() == {"beacon": beacon, "gps": better}
        assert registry.models() == {"*": everyone, "mower": model("mower")}
        registry.remove_sensor("beacon")
        registry.remove_sensor("never there")
        registry.remove_model("mower")
        assert registry.sensors() == {"gps": better}
        assert registry.models() == {"*": everyone}


def test_definitions_carry_key_and_headers(broker: Broker, topics: TopicNames) -> None:
    with Registry(broker.bootstrap_servers, topics.sensors, topics.models) as registry:
        registry.set_model(model("*"))
        registry.remove_model("*")
    definition, removal = records(broker, topics.models, 2)
    assert (definition.key, removal.key, removal.value) == (b"*", b"*", None)
    assert cloudevents.parse(definition.headers)["type"] == cloudevents.MODEL


def test_all_definitions_are_read_whatever_end_the_broker_reports(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    for number in range(100):  # one batch, within which the embedded broker reports the end
        sensor = PositionSensor(sensor=f"gps-{number}", standard_deviation=1.0)
        raw.send(topics.sensors, key=sensor.sensor.encode(), value=sensor.to_json())
    raw.flush()
    registry = Registry(broker.bootstrap_servers, topics.sensors, topics.models)
    assert len(registry.sensors()) == 100


def test_a_bad_definition_leaves_the_old_one_in_force(broker: Broker, topics: TopicNames, raw: Any) -> None:
    gps = PositionSensor(sensor="gps", standard_deviation=2.0)
    with Registry(broker.bootstrap_servers, topics.sensors, topics.models) as registry:
        registry.set_sensor(gps)
        raw.send(topics.sensors, key=b"gps", value=b'{"kind":"position","sensor":"gps"}')
        raw.send(topics.sensors, key=b"other", value=gps.to_json())
        raw.flush()
        with capture_logs() as logs:
            assert registry.sensors() == {"gps": gps}
    assert len(logs) == 2


def model(entity: str) -> Model:
    return Model(
        entity=entity,
        name="planar",
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        motion=RandomWalk(spectral_density=0.1),
        prior=PLANE,
    )


# What all of them share

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
def test_a_topic_that_is_not_there_is_named(embedded_broker: EmbeddedNode, open_client: Opener) -> None:
    with pytest.raises(TopicMissing, match="there is no topic"):
        open_client(embedded_broker.bootstrap_servers, bootstrap_timeout_ms=500)


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
    program = "import sys, streams.client; print(sorted({'torch', 'faust', 'mode'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
