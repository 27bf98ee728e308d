"""Measures the time from sending an observation to reading its posterior, at a steady rate."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from beliefstream.schemas import Observation
from beliefstream.streams.kafka.partitioners import partition_of
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.settings import Settings
from research.bench.end_to_end.site import Site, define, log_of, wait_until_ready, worker

WARM_SECONDS = 4.0  # at the start, not counted: cold starts, and kernels that are loaded at their first use
REST_SECONDS = 5.0  # after the last observation, for its posterior


class Latency(NamedTuple):
    """Milliseconds from sending an observation to reading its posterior.

    Attributes:
        rate: observations a second.
        posteriors: that were read.
        missing: observations whose posteriors were not read.
    """

    rate: float
    median: float
    ninety_five: float
    posteriors: int
    missing: int


def measure_latency(site: Site, rate: float = 100.0, seconds: float = 15.0) -> Latency:
    """Send observations of `rate` / 2 entities for so long, each at its time.

    Raises:
        RuntimeError: the worker does not start, or no posterior was read.
    """
    settings = site.settings()
    simulation = simulate(entities=max(1, round(rate / 2)), duration=seconds, rate=2.0)
    define(settings, simulation)
    with worker(settings) as child:
        wait_until_ready(settings, child)
        waits, missing = asyncio.run(_measure(site, settings, simulation.observations))
    if not waits:
        raise RuntimeError(f"bench: no posterior was read; see {log_of(settings)}")
    waits.sort()
    middle, late = waits[len(waits) // 2], waits[len(waits) * 95 // 100]
    return Latency(rate, 1e3 * middle, 1e3 * late, len(waits), missing)


async def _measure(
    site: Site, settings: Settings, observations: list[Observation]
) -> tuple[list[float], int]:
    """Send the observations in their time, and return the seconds of each, and how many have no posterior."""
    first = observations[0].time
    counted = {(each.entity, each.time) for each in observations if each.time > first + WARM_SECONDS}
    sent: dict[tuple[str, float], float] = {}
    waits: list[float] = []
    consumer = AIOKafkaConsumer(
        bootstrap_servers=site.brokers, auto_offset_reset="earliest", **site.fetch_options
    )
    producer = AIOKafkaProducer(bootstrap_servers=site.brokers, acks="all")
    async with consumer, producer:
        places = [TopicPartition(settings.names.posteriors, number) for number in range(settings.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)

        async def read() -> None:
            while len(waits) < len(counted):
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    now = time.perf_counter()
                    for record in records:
                        found = orjson.loads(record.value)
                        place = (found["entity"], found["time"])
                        if place in counted and place in sent:
                            waits.append(now - sent.pop(place))

        reading = asyncio.create_task(read())
        began = time.perf_counter() + 1.0
        for each in observations:
            await asyncio.sleep(max(0.0, began + each.time - first - time.perf_counter()))
            key = each.entity.encode()
            sent[each.entity, each.time] = time.perf_counter()
            await producer.send(
                settings.names.observations,
                each.to_json(),
                key,
                partition=partition_of(key, settings.partitions),
            )
        with suppress(TimeoutError):
            await asyncio.wait_for(reading, REST_SECONDS)
    return waits, len(counted) - len(waits)
