from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import aiokafka
import faust
import kafka
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from faust.tables.recovery import ServiceStopped
from faust.types import TP
from kafka import KafkaConsumer, KafkaProducer
from mode.utils.futures import maybe_async

from beliefstream.streams.kafka.faust.consumer import SafeConsumer, use_safe_consumer
from beliefstream.streams.kafka.faust.recovery import SafeTableManager
from beliefstream.streams.kafka.faust.watermarks import HighWatermarkThread, high_watermarks
from beliefstream.streams.kafka.producing import Record, send_all
from beliefstream.streams.kafka.topics import create
from tests.brokers import Broker, EmbeddedNode
from tests.conftest import Names, eventually
from tests.streams.processes import Fork

KEYS = 20
STARTS = 3


class Worker:
    """Runs tests/streams/recovery_app.py against a broker, and reads what it writes down."""

    def __init__(self, broker: Broker, names: Names, directory: Path) -> None:
        self.broker, self.names = broker, names
        self.journal = directory / "journal"
        self.output = directory / "output"
        self.journal.touch()
        self._read = 0  # bytes of the journal
        self._processed: set[tuple[int, int]] = set()
        self._restored: list[dict[str, int]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the block ends, which kills it."""
        environment = os.environ | {
            "APP_ID": self.names.app_id,
            "BROKER": self.broker.bootstrap_servers,
            "SOURCE": self.names.topics.observations,
            "JOURNAL": str(self.journal),
            "FETCH_HIGH_WATERMARK": str(int(self.broker.is_embedded)),
        }
        arguments = ["worker", "--without-web", "-l", "info"]
        process = Fork("tests.streams.recovery_app", arguments, environment, self.output)
        try:
            yield
        finally:
            process.kill()

    def wait_for(self, restored: int, processed: set[tuple[int, int]]) -> None:
        """Waits for that many recoveries and those records, over all its starts."""
        eventually(lambda: len(self.restored) >= restored, 60, f"{restored} recoveries")
        eventually(lambda: self.processed >= processed, 60, f"{len(processed)} records are processed")

    @property
    def processed(self) -> set[tuple[int, int]]:
        """(partition, offset) of every record it has processed, by now, over all its starts."""
        self._read_on()
        return self._processed

    @property
    def restored(self) -> list[dict[str, int]]:
        """The table after each recovery."""
        self._read_on()
        return self._restored

    def _read_on(self) -> None:
        """Takes the whole lines that the journal has got since: a long one takes several writes."""
        with self.journal.open("rb") as journal:
            journal.seek(self._read)
            new, _, _ = journal.read().rpartition(b"\n")
        self._read += len(new) + bool(new)
        for line in new.decode().splitlines():
            words = line.split()
            if words[0] == "restored":
                self._restored.append(json.loads(line.removeprefix("restored ")))
            elif len(words) == 3:  # another number where a process was killed while it wrote
                self._processed.add((int(words[1]), int(words[2])))


def produce(broker: Broker, topic: str, count: int) -> set[tuple[int, int]]:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, linger_ms=5)
    sent = [producer.send(topic, key=b"key %d" % (i % KEYS), value=b"%d" % i) for i in range(count)]
    results = [future.get(30) for future in sent]
    producer.close()
    return {(result.partition, result.offset) for result in results}


def everything_committed(broker: Broker, names: Names, count: int) -> bool:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers, group_id=names.app_id, enable_auto_commit=False
    )
    partitions = [kafka.TopicPartition(names.topics.observations, partition) for partition in range(4)]
    committed = [consumer.committed(partition) or 0 for partition in partitions]
    consumer.close()
    return sum(committed) == count


@pytest.mark.chaos
def test_nothing_is_lost_when_a_killed_worker_restarts_into_a_backlog(
    broker: Broker, names: Names, tmp_path: Path
) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=4)
    topic, worker = names.topics.observations, Worker(broker, names, tmp_path)
    sent: set[tuple[int, int]] = set()
    for start in range(1, STARTS + 1):
        sent |= produce(broker, topic, 2000)
        with worker.running():
            worker.wait_for(restored=start, processed=sent)
            # All committed: else what the next start skips would have been processed by this one.
            eventually(partial(everything_committed, broker, names, len(sent)), 60, "all is committed")


def test_table_is_restored_to_the_last_record_of_a_batch(
    broker: Broker, names: Names, tmp_path: Path
) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=4)
    table = {f"key {i}": i for i in range(2000)}
    changelog = names.topics.beliefs_changelog
    records = [
        Record(changelog, value % 4, json.dumps(key).encode(), json.dumps(value).encode())
        for key, value in table.items()
    ]

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=broker.bootstrap_servers, max_batch_size=1_000_000
        ) as producer:
            await send_all(producer, records)

    asyncio.run(send())
    worker = Worker(broker, names, tmp_path)
    with worker.running():
        worker.wait_for(restored=1, processed=set())
    assert worker.restored[-1] == table


def test_record_after_a_gap_is_committed_only_when_it_is_processed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_deleted(self: SafeConsumer, *partitions: TP) -> dict[TP, int]:
        return dict.fromkeys(partitions, 0)

    monkeypatch.setattr(SafeConsumer, "earliest_offsets", nothing_deleted)  # no broker is asked here

    async def committed(*acked: int) -> int | None:
        app = faust.App("gaps", broker="kafka://127.0.0.1:1", TableManager=SafeTableManager)
        use_safe_consumer(app)
        consumer = app.consumer
        assert isinstance(consumer, SafeConsumer)
        # Offsets 3 and 4 were read, then 9, as 5 to 8 are not in the log; then 10.
        partition = TP("observations", 0)
        await consumer._add_gap(partition, 5, 9)
        consumer._acked[partition].extend(acked)
        consumer._thread.thread_loop.close()  # of its thread, which never starts here
        return consumer._new_offset(partition)

    assert asyncio.run(committed(3)) == 4
    assert asyncio.run(committed(3, 4, 10)) == 9
    assert asyncio.run(committed(3, 4, 9, 10)) == 11


def test_high_watermark_is_the_end_of_the_partition(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics)
    topic = names.topics.beliefs_changelog

    async def ask() -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        await consumer.start()
        try:
            await send_all(producer, [Record(topic, i % 2, b"%d" % i, b"1") for i in range(100)])
            ends = await consumer.end_offsets([TopicPartition(topic, 0), TopicPartition(topic, 1)])
            return ends, await asyncio.wait_for(high_watermarks(consumer, ends), 30)
        finally:
            await producer.stop()
            await consumer.stop()

    ends, marks = asyncio.run(ask())
    assert set(marks.values()) == {50}
    assert all(0 < end <= 50 for end in ends.values())


def test_a_log_of_the_embedded_broker_is_read_from_its_first_record_whatever_beginning_it_reports(
    embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer is too high where two producers raced, which no test can bring about."""
    servers, topic = embedded_broker.bootstrap_servers, names.topics.observations
    create(servers, names.topics)

    class Thread(HighWatermarkThread):
        """Does in the test's own loop what is to be done in its thread."""

        def __init__(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
            self._consumer = consumer

        async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return await maybe_async(fun(*args, **kwargs))

    async def too_high(consumer: aiokafka.AIOKafkaConsumer, *partitions: TopicPartition) -> None:
        for partition in partitions:
            consumer.seek(partition, 2)

    async def read() -> list[bytes | None]:
        producer = AIOKafkaProducer(bootstrap_servers=servers)
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=servers)
        await producer.start()
        await consumer.start()
        try:
            await send_all(producer, [Record(topic, 0, b"%d" % i, b"1") for i in range(3)])
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            await Thread(consumer).seek_to_beginning(place)
            found = await asyncio.wait_for(consumer.getmany(place, timeout_ms=10_000), 30)
            return [record.key for record in found[place]]
        finally:
            await producer.stop()
            await consumer.stop()

    monkeypatch.setattr(aiokafka.AIOKafkaConsumer, "seek_to_beginning", too_high)
    assert asyncio.run(read()) == [b"0", b"1", b"2"]


def test_a_step_of_a_recovery_that_takes_too_long_stops_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust would leave the recovery for good, and keep the partitions."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    async def recover() -> None:
        app = faust.App("slow", broker="kafka://127.0.0.1:1", TableManager=SafeTableManager)
        recovery = cast(SafeTableManager, app.tables).recovery
        await recovery._wait(asyncio.sleep(0), timeout=60.0)
        assert not ended
        with pytest.raises(ServiceStopped):
            await recovery._wait(asyncio.sleep(60), timeout=0.01)

    asyncio.run(recover())
    assert ended == [70]
