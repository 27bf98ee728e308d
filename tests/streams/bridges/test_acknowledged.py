"""The gateway's writer on a Kafka whose connections break: acknowledged means stored, once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from beliefstream.schemas import Mixture, Observation, Prior, parse
from beliefstream.streams.bridges.acknowledged import NotAcknowledged, Writer
from beliefstream.streams.client import Place
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.settings import Settings
from tests.brokers import EmbeddedNode, KafkaNode, Place as NodePlace
from tests.chaos.proxy import Proxy
from tests.conftest import Names
from tests.streams.client.topics import records
from tests.streams.workers import renamed

PATIENCE = 60.0  # seconds
BREAKS = 15
ENTITIES = [f"e{number}" for number in range(12)]


Breakable = tuple[KafkaNode, Proxy]


@pytest.fixture(scope="module")
def breakable() -> Iterator[Breakable]:
    """A Kafka, and what clients of its `front_servers` come through."""
    front, back = free_port(), free_port()
    with KafkaNode(NodePlace(front_port=front, back_port=back)) as broker, Proxy(front, back) as proxy:
        yield broker, proxy


def observation(entity: str, number: int) -> Observation:
    return Observation(
        entity=entity, sensor="gps", time=1769860800.0 + number, value=1.0, id=f"{entity}-{number}"
    )


@asynccontextmanager
async def writing(servers: str, names: Names, seconds: float) -> AsyncIterator[Writer]:
    settings = Settings(brokers=servers, topics=renamed(names.topics))
    writer = Writer(settings, "/tests", (Observation, Prior), seconds)
    await writer.start()
    try:
        yield writer
    finally:
        await writer.close()


def places(outcomes: Sequence[Place | Exception]) -> list[Place]:
    assert all(isinstance(each, Place) for each in outcomes), outcomes
    return [each for each in outcomes if isinstance(each, Place)]


def test_each_message_is_at_the_place_that_is_told(embedded_broker: EmbeddedNode, names: Names) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    sent = [observation(entity, number) for number in range(20) for entity in ENTITIES]
    prior = Prior(entity="e1", time=1769860800.0, mixture=Mixture.gaussian((0.0,), 1.0), coordinates=("x",))

    async def write() -> list[Place]:
        async with writing(embedded_broker.bootstrap_servers, names, 10) as writer:
            together = await asyncio.gather(*(writer.write([each]) for each in sent[:60]))
            told = [outcome for several in together for outcome in several]
            told += await writer.write([*sent[60:], prior])
            assert writer.in_flight == 0
            return places(told)

    *told, of_prior = asyncio.run(write())
    assert of_prior.topic == names.topics.priors
    stored = records(embedded_broker, names.topics.observations, len(sent))
    found = {(each.partition, each.offset): each for each in stored}
    assert len(found) == len(sent)
    for message, place in zip(sent, told, strict=True):
        record = found[place.partition, place.offset]
        assert (record.key.decode(), parse(Observation, record.value)) == (message.entity, message)


@pytest.mark.chaos
@pytest.mark.kafka
def test_connections_that_break_lose_nothing_double_nothing_and_keep_the_order(
    breakable: Breakable, names: Names
) -> None:
    broker, proxy = breakable
    create(broker.bootstrap_servers, names.topics, partitions=3)
    accepted = asyncio.run(write_while_it_breaks(broker.front_servers, names, proxy))
    found = records(broker, names.topics.observations, len(accepted))
    stored = [parse(Observation, each.value) for each in found]
    assert len(accepted) >= 2 * BREAKS * len(ENTITIES)
    identities = [each.id for each in stored]
    assert len(identities) == len({*identities})
    assert accepted <= {*identities}
    for entity in ENTITIES:
        times = [each.time for each in stored if each.entity == entity]
        assert times == sorted(times)


async def write_while_it_breaks(servers: str, names: Names, proxy: Proxy) -> set[str]:
    """Returns the identifiers of what was acknowledged."""
    accepted: set[str] = set()
    ended = asyncio.Event()

    async def write_all(writer: Writer, entity: str) -> None:
        number = 0
        while not ended.is_set():
            places(await writer.write([observation(entity, number)]))
            accepted.add(f"{entity}-{number}")
            number += 1

    async def break_often() -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                for _ in range(BREAKS):
                    wanted = len(accepted) + 2 * len(ENTITIES)
                    while len(accepted) < wanted:
                        await asyncio.sleep(0.001)
                    proxy.cut()
                    proxy.mend()
        finally:
            ended.set()

    async with writing(servers, names, 10) as writer:
        await asyncio.gather(break_often(), *(write_all(writer, entity) for entity in ENTITIES))
    return accepted


@pytest.mark.chaos
@pytest.mark.kafka
def test_what_was_refused_does_not_come_later(breakable: Breakable, names: Names) -> None:
    broker, proxy = breakable
    create(broker.bootstrap_servers, names.topics, partitions=3)

    async def write() -> None:
        async with writing(broker.front_servers, names, 1) as writer:
            places(await writer.write([observation("e1", 0)]))
            proxy.cut()
            several = await asyncio.gather(*(writer.write([observation("e1", n)]) for n in (1, 2, 3)))
            assert all(isinstance(outcome, NotAcknowledged) for (outcome,) in several)
            assert writer.failing and writer.in_flight == 0
            proxy.mend()
            await writer.renew()
            for number in (4, 5):
                places(await writer.write([observation("e1", number)]))

    asyncio.run(write())
    stored = records(broker, names.topics.observations, 3)
    assert [parse(Observation, each.value).id for each in stored] == ["e1-0", "e1-4", "e1-5"]


@pytest.mark.chaos
@pytest.mark.kafka
def test_a_broker_that_is_away_for_a_moment_is_waited_for(
    breakable: Breakable, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    broker, proxy = breakable
    create(broker.bootstrap_servers, names.topics, partitions=3)

    async def write() -> None:
        async with writing(broker.front_servers, names, 10) as writer:
            places(await writer.write([observation("e1", 0)]))
            proxy.cut()
            writes = asyncio.create_task(writer.write([observation("e1", 1)]))
            async with asyncio.timeout(PATIENCE):
                while not any("Unable connect" in each.getMessage() for each in caplog.records):
                    await asyncio.sleep(0.001)
            proxy.mend()
            places(await writes)

    asyncio.run(write())
