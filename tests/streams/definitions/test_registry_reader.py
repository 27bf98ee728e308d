"""How a worker reads sensors and models, on both brokers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from kafka import KafkaProducer

from beliefstream.schemas import PositionSensor, RangeSensor, Reason, Unusable
from beliefstream.streams.client import Registry
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.local.simulated_fleet import fleet_model
from tests.brokers import Broker
from tests.conftest import Names, unique_names
from tests.streams.workers import make_again

BROKEN = b'{"kind":"range","sensor":"range","position":[0],"standard_deviation":1}'
WAIT = 30.0  # seconds


class Topics:
    """The two topics of one test."""

    def __init__(self, broker: Broker, names: Names) -> None:
        self.names, self.broker = names.topics, broker
        create(broker.bootstrap_servers, names.topics, partitions=1)
        self.registry = Registry(broker.bootstrap_servers, self.names.sensors, self.names.models)
        self.refused: list[tuple[str, bytes, Reason]] = []
        self.failures = 0  # how often a dead letter cannot be sent

    def send(self, topic: str, key: bytes, *values: bytes) -> None:
        producer = KafkaProducer(bootstrap_servers=self.broker.bootstrap_servers)
        for value in values:
            producer.send(topic, key=key, value=value)
        producer.flush(30)
        producer.close()

    def make_again(self, topic: str) -> None:
        make_again(self.broker.bootstrap_servers, self.names, topic, partitions=1)

    async def reject(self, record: ConsumerRecord, reason: Reason, detail: str) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise ConnectionError("no broker")
        assert detail
        self.refused.append((record.topic, record.value, reason))

    @asynccontextmanager
    async def reader(self, **options: Any) -> AsyncIterator[DefinitionsReader]:
        definitions = Definitions(self.names.sensors, self.names.models)
        reader = DefinitionsReader(definitions, self.broker.bootstrap_servers, self.reject, options)
        try:
            async with asyncio.timeout(WAIT):
                await reader.start()
                yield reader
        finally:
            await reader.stop()


@pytest.fixture
def topics(broker: Broker) -> Iterator[Topics]:
    opened = Topics(broker, unique_names())
    yield opened
    opened.registry.close()


def test_all_that_is_there_is_read_before_the_reader_is_complete(topics: Topics) -> None:
    for number in range(300):
        sensor = PositionSensor(sensor=f"s-{number}", standard_deviation=1.0)
        topics.registry.set_sensor(sensor)
    topics.registry.set_model(fleet_model())
    topics.registry.remove_sensor("s-299")

    async def read() -> Definitions:
        async with topics.reader() as reader:
            assert reader.complete.is_set()
            return reader.definitions

    definitions = asyncio.run(read())
    assert set(definitions.sensors) == {f"s-{number}" for number in range(299)}
    assert set(definitions.models) == {"*"}


def test_what_was_acknowledged_before_a_catch_up_is_known_after_it(topics: Topics) -> None:
    async def read() -> None:
        async with topics.reader() as reader:
            assert reader.definitions.sensors == {}
            for number in count(1):
                sensor = RangeSensor(sensor="range", position=(0.0, float(number)), standard_deviation=1.0)
                await asyncio.to_thread(topics.registry.set_sensor, sensor)
                await reader.catch_up()
                assert reader.definitions.sensors["range"] == sensor
                if number == 5:
                    return

    asyncio.run(read())


def test_a_catch_up_does_not_wait_for_a_fetch_to_which_no_broker_answers_yet(topics: Topics) -> None:
    async def read() -> None:
        async with topics.reader(fetch_max_wait_ms=2000) as reader:
            for _ in range(20):  # at a fetch each, the test would take too long
                before = time.monotonic()
                assert reader.known_before < before
                await reader.catch_up()
                assert before <= reader.known_before <= time.monotonic()

    asyncio.run(read())


def test_definitions_are_followed_without_being_asked_for(topics: Topics) -> None:
    async def read() -> None:
        async with topics.reader() as reader:
            await asyncio.to_thread(topics.registry.set_model, fleet_model())
            while "*" not in reader.definitions.models:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(topics.registry.remove_model, "*")
            while reader.definitions.models:
                await asyncio.sleep(0.01)

    asyncio.run(read())


def test_a_bad_definition_is_refused_and_the_old_one_stays_in_force(topics: Topics) -> None:
    sound = RangeSensor(sensor="range", position=(1.0, 2.0), standard_deviation=1.0)
    other = sound.to_json().replace(b'"sensor":"range"', b'"sensor":"other"')
    model = fleet_model()
    topics.registry.set_sensor(sound)
    topics.registry.set_model(model)

    async def read() -> Definitions:
        async with topics.reader() as reader:
            await asyncio.to_thread(topics.send, topics.names.sensors, b"range", BROKEN, b"{", other)
            await asyncio.to_thread(topics.send, topics.names.models, b"*", b'{"entity":"*"}')
            await reader.catch_up()
            return reader.definitions

    definitions = asyncio.run(read())
    assert definitions.sensors == {"range": sound}
    assert definitions.models["*"].message == model
    assert sorted(topics.refused) == sorted(
        [
            (topics.names.sensors, BROKEN, Reason.invalid_definition),
            (topics.names.sensors, b"{", Reason.not_json),
            (topics.names.sensors, other, Reason.key_mismatch),
            (topics.names.models, b'{"entity":"*"}', Reason.invalid_definition),
        ]
    )


def test_a_dead_letter_that_cannot_be_sent_yet_costs_no_definition(topics: Topics) -> None:
    async def read() -> Definitions:
        async with topics.reader() as reader:
            topics.failures = 1
            sound = RangeSensor(sensor="range", position=(1.0, 2.0), standard_deviation=1.0).to_json()
            await asyncio.to_thread(topics.send, topics.names.sensors, b"range", BROKEN, sound)
            while not topics.refused:
                await asyncio.sleep(0.01)
            return reader.definitions

    definitions = asyncio.run(read())
    assert set(definitions.sensors) == {"range"}
    assert topics.refused == [(topics.names.sensors, BROKEN, Reason.invalid_definition)]


def test_a_definition_under_a_key_of_another_name_changes_nothing() -> None:
    definitions = Definitions("sensors", "models")
    record = ConsumerRecord("sensors", 0, 0, 0, 0, b"other", BROKEN.replace(b"[0]", b"[0,0]"), None, 0, 0, ())
    with pytest.raises(Unusable) as caught:
        definitions.apply(record)
    assert caught.value.reason == Reason.key_mismatch
    assert definitions.sensors == {}


def test_a_topic_that_was_made_again_is_told_from_the_one_before(topics: Topics) -> None:
    topics.registry.set_model(fleet_model())

    async def read() -> tuple[list[str], list[str]]:
        async with topics.reader() as reader:
            before = await reader.changes()
            await asyncio.to_thread(topics.make_again, topics.names.sensors)
            return before, await reader.changes()

    assert asyncio.run(read()) == ([], [f"{topics.names.sensors!r} was deleted and created again"])
