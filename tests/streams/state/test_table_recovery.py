"""Beliefs are restored from their changelog in large batches, on both brokers and in both stores."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from beliefstream.streams.kafka.producing import Record, send_all
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.state.record import BeliefRecord
from tests.brokers import Broker
from tests.conftest import Names
from tests.streams.processes import Fork

PARTITIONS = 4
BELIEFS = 2000


def restored(broker: Broker, names: Names, directory: Path, store: str) -> Any:
    """What a worker has when its recovery has ended."""
    environment = os.environ | {
        "APP_ID": names.app_id,
        "BROKER": broker.bootstrap_servers,
        "SOURCE": names.topics.observations,
        "STORE": store,
        "DIRECTORY": str(directory),
        "RESULT": str(directory / "result"),
        "FETCH_HIGH_WATERMARK": str(int(broker.is_embedded)),
    }
    output = directory / "output"
    ended = Fork("tests.streams.restoring_app", ["worker", "--loglevel=error"], environment, output).wait(120)
    assert ended == 0, output.read_text()
    return json.loads((directory / "result").read_text())


def write(broker: Broker, names: Names, keys: range) -> None:
    value = BeliefRecord().encode()
    topic = names.topics.beliefs_changelog
    records = [Record(topic, key % PARTITIONS, b"entity-%d" % key, value) for key in keys]

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            await send_all(producer, records)

    asyncio.run(send())


@pytest.mark.parametrize("store", ["memory://", "rocksdb://"])
def test_every_belief_of_the_changelog_is_restored_and_those_written_since(
    broker: Broker, names: Names, tmp_path: Path, store: str
) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=PARTITIONS)
    for count in (BELIEFS, 2 * BELIEFS):
        write(broker, names, range(count - BELIEFS, count))
        each = count // PARTITIONS
        assert restored(broker, names, tmp_path, store) == {
            "sizes": [each] * PARTITIONS,
            "offsets": [each - 1] * PARTITIONS,
        }
