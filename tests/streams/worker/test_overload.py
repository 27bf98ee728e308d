"""More than a worker can do, on real Kafka: what it does not lose, what others notice, and that it catches up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer

from beliefstream.schemas import Observation
from beliefstream.streams.kafka.connection import find_partitions
from beliefstream.streams.local.simulated_fleet import simulate
from tests.brokers import KafkaNode
from tests.conftest import Names, eventually
from tests.streams.oracle import check_order, distance, expected, linear_fleet
from tests.streams.worker.test_two_workers import owned
from tests.streams.workers import PARTITIONS, Stream, Worker, posteriors_of, stream

EXACT = 1e-8
MEBIBYTE = 2**20
ACCEPTED = "beliefstream_observations_total/accepted"
MEMORY = "process_resident_memory_bytes"

pytestmark = pytest.mark.kafka


@pytest.fixture
def opened(kafka_broker: KafkaNode, names: Names, tmp_path: Path) -> Iterator[Stream]:
    with stream(kafka_broker, names, tmp_path) as opened:
        yield opened


def lag(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith("beliefstream_consumer_lag"))


def older_than(metrics: dict[str, float], seconds: str) -> float:
    """Batches whose oldest record was older than a bucket's bound."""
    name = "beliefstream_record_age_seconds"
    return metrics[f"{name}_count"] - metrics[f"{name}_bucket/{seconds}"]


class Flood:
    """Observations faster than a worker can take them, sent as bytes; nobody reads what comes of them."""

    def __init__(self, opened: Stream, worker: Worker, entities: int = 200) -> None:
        self._opened, self._worker, self._entities = opened, worker, entities
        model, sensor, _ = linear_fleet(simulate(entities=1, duration=2.0), 1)
        opened.define([model, sensor])
        self._line = b'{"entity":"%s","sensor":"' + sensor.sensor.encode() + b'","time":%.4f,"value":[1,2]}'
        self.sent = 0
        self._newest = 0.0  # in event time, which goes on however fast this is sent: none is late
        self.lags: list[float] = []
        self.memory: list[float] = []

    def send(self, count: int) -> None:
        start = max(time.time(), self._newest)
        self._newest = start + 1e-4 * count
        for number in range(self.sent, self.sent + count):
            entity = b"e-%d" % (number % self._entities)
            value = self._line % (entity, start + 1e-4 * (number - self.sent))
            self._opened.raw.send(self._opened.names.topics.observations, key=entity, value=value)
        self._opened.raw.flush()
        self.sent += count

    def caught_up(self) -> bool:
        """Looks at the worker; whether it has applied all and says so."""
        found = self._worker.metrics()
        self.lags.append(lag(found))
        self.memory.append(found[MEMORY])
        return found[ACCEPTED] == self.sent and self.lags[-1] == 0

    def one_is_quick(self) -> bool:
        """Whether one more observation is dealt with before it is a second old."""
        before = older_than(self._worker.metrics(), "1.0")
        self.send(1)
        eventually(self.caught_up, 30, "one more")
        return older_than(self._worker.metrics(), "1.0") == before

    def check(self, most_memory: float) -> None:
        """Nothing dropped, refused or doubled; the lag was seen, the age of records too; memory in bytes."""
        found = self._worker.metrics()
        assert found["beliefstream_observations_total/rejected"] == 0
        assert found["beliefstream_observations_total/duplicate"] == 0
        assert found["beliefstream_record_age_seconds_count"] > 0
        assert max(self.memory) - self.memory[0] < most_memory
        assert max(self.memory) == pytest.approx(self.memory[-1], rel=0.2)


def idle_group(opened: Stream) -> KafkaConsumer:
    """A consumer of posteriors that has joined its group, has read little, and reads no more."""
    servers, topic = opened.broker.bootstrap_servers, opened.names.topics.posteriors
    consumer = KafkaConsumer(
        bootstrap_servers=servers, group_id=f"{opened.names.app_id}-idle", max_poll_records=1
    )
    consumer.subscribe([topic])
    # a member that joins before it knows the partitions is assigned none, and stays so
    find_partitions(consumer, topic, servers, 20)
    eventually(lambda: consumer.poll(timeout_ms=100) or consumer.assignment(), 20, "the consumer has joined")
    return consumer


def test_a_flood_is_seen_bounded_worked_off_and_complete(opened: Stream) -> None:
    worker = opened.worker().start()
    idle = idle_group(opened)
    flood = Flood(opened, worker)
    flood.caught_up()
    worker.suspend()  # else it may keep up with the sender
    flood.send(12_000)
    worker.wake()
    eventually(flood.caught_up, 60, "the flood is worked off")
    idle.close()
    assert max(flood.lags) > 3000
    assert older_than(worker.metrics(), "0.5") > 0
    flood.check(most_memory=150 * MEBIBYTE)
    # and afterwards it is as quick as before
    assert any(flood.one_is_quick() for _ in range(5))  # the machine may stand still for a moment
    records = opened.posteriors.wait_for(
        lambda records: len(records) >= flood.sent and records, 60, "all posteriors"
    )
    found = posteriors_of(records)
    assert sum(len(taken) for taken in found.values()) == len(records) == flood.sent
    assert all(each.sequence == place + 1 for taken in found.values() for place, each in enumerate(taken))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_backlog_of_half_a_million_does_not_fill_the_memory(opened: Stream) -> None:
    worker = opened.worker().start()
    flood = Flood(opened, worker, entities=1000)
    flood.caught_up()
    for _ in range(10):
        flood.send(50_000)
        flood.caught_up()
    assert max(flood.lags) > 100_000
    eventually(flood.caught_up, 600, "the flood is worked off")
    print(
        f"memory {flood.memory[0] / MEBIBYTE:.0f} to {max(flood.memory) / MEBIBYTE:.0f} MiB, lag {max(flood.lags):.0f}"
    )
    flood.check(most_memory=200 * MEBIBYTE)


class Hot:
    """A busy entity whose backlog is in front, and others behind it in the same log."""

    def __init__(self, opened: Stream, backlog: int, others: int = 100) -> None:
        self.stream = opened
        busy = simulate(entities=1, duration=backlog / 2, rate=2.0, seed=7)
        fleet = simulate(entities=others, duration=4.0, rate=1.0, seed=8)
        model, sensor, mine = linear_fleet(busy, len(busy.observations))
        _, _, theirs = linear_fleet(fleet, len(fleet.observations))
        self.busy = [seen.model_copy(update={"entity": "busy", "id": f"busy-{seen.id}"}) for seen in mine]
        self.others = theirs
        opened.define([model, sensor])
        self.outcomes = expected(model, [sensor], [*self.busy, *self.others])

    def send(self, observations: list[Observation]) -> None:
        for seen in observations:
            self.stream.observations.send_message(seen)
        self.stream.observations.flush()

    def busy_before_all_others(self) -> int:
        """Waits for all posteriors of the others; how many of the busy entity's were sent by then."""
        due = len(self.others)

        def there(records: list[Any]) -> list[Any]:
            found = [record for record in records if record.key != b"busy"]
            return found if len(found) >= due else []

        found = self.stream.posteriors.wait_for(there, 60, "the others' posteriors")
        last = max(record.timestamp for record in found)
        records = self.stream.posteriors.records
        return sum(record.key == b"busy" and record.timestamp <= last for record in records)

    def count_busy(self) -> int:
        """The busy entity's posteriors so far."""
        self.stream.posteriors.poll()
        return sum(record.key == b"busy" for record in self.stream.posteriors.records)

    def check(self) -> None:
        """Waits for the last; nothing lost, nothing twice, everything in order and as the replay has it."""
        due = sum(map(len, self.outcomes.values()))

        def complete(records: list[Any]) -> Any:
            found = posteriors_of(records)
            return sum(map(len, found.values())) >= due and found

        found = self.stream.posteriors.wait_for(complete, 60, f"{due} posteriors")
        check_order(found, self.outcomes, [*self.busy, *self.others])
        for entity, taken in found.items():
            for posterior, outcome in zip(taken, self.outcomes[entity], strict=True):
                assert distance(posterior.mixture, outcome) < EXACT
        topic = self.stream.names.topics.observations
        total = len(self.busy) + len(self.others)
        eventually(
            lambda: sum(self.stream.committed(topic, number) for number in range(PARTITIONS)) == total,
            30,
            "all is committed",
        )


def test_a_busy_entity_does_not_hold_up_the_others(opened: Stream) -> None:
    hot = Hot(opened, backlog=1000, others=40)
    hot.send(hot.busy)
    hot.send(hot.others)
    opened.worker().start()
    assert hot.busy_before_all_others() < len(hot.busy) // 3
    hot.check()


@pytest.mark.chaos
@pytest.mark.soak
def test_what_was_overtaken_is_not_lost_when_partitions_move_and_a_worker_is_killed(opened: Stream) -> None:
    hot = Hot(opened, backlog=1200, others=40)
    workers = [opened.worker(batch=64).launch() for _ in range(2)]
    place = opened.observations.send_message(hot.busy[0]).result(30)
    busy = f"{place.topic}-{place.partition}"
    for worker in workers:
        worker.wait_until_ready()
    eventually(lambda: all(worker.assigned for worker in workers), 30, "both have partitions")
    hot.send(hot.busy[1:])
    hot.send(hot.others)
    assert hot.busy_before_all_others() < len(hot.busy)
    owner, other = sorted(workers, key=lambda worker: busy not in worker.assigned)
    # the other's partitions go to the owner, which lets go of what waits, and is given it again
    assert other.terminate() == 0
    eventually(lambda: len(owned(owner, place.topic)) == PARTITIONS, 30, "the owner has all partitions")
    done = hot.count_busy()
    eventually(lambda: hot.count_busy() > done, 30, "the busy entity goes on")
    owner.kill()
    assert hot.count_busy() < len(hot.busy), "the worker was too fast to be killed in mid-stream"
    opened.worker(batch=64).start()
    hot.check()
