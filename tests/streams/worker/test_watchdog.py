"""A worker that stands still with messages waiting ends, to be started again; one that has a reason does not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from faust.types import TP

from beliefstream.streams.kafka.topics import create
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.worker.watchdog import (
    ASK_AFTER,
    SLOW,
    BacklogReader,
    StallClock,
    StallWatchdog,
    WorkerProbe,
)
from tests.brokers import EmbeddedNode, KafkaNode
from tests.conftest import Names, eventually
from tests.streams.oracle import linear_fleet
from tests.streams.workers import stream

LIMIT = 100.0
OBSERVATIONS, PRIORS, OTHER = TP("observations", 0), TP("priors", 0), TP("observations", 1)


class Guarded:
    """A worker that does nothing unless told to, looked at every second; and a log that has what `waiting` says."""

    def __init__(self) -> None:
        self.processed_offsets = {OBSERVATIONS: 5, PRIORS: 2, OTHER: 7}
        self.is_busy = self.has_queued = self.is_blocked = False
        self.waiting_in: dict[TP, int] = {}
        self.asked = 0
        self.away = False
        watched = WorkerProbe(
            lambda: dict(self.processed_offsets),
            lambda: self.is_busy,
            lambda: self.has_queued,
            lambda: self.is_blocked,
        )
        self.stalls = StallWatchdog(LIMIT, watched, self)  # type: ignore[arg-type]

    async def waiting(self, processed_offsets: Mapping[TP, int]) -> dict[TP, int]:
        self.asked += 1
        if self.away:
            raise KafkaConnectionError("nobody there")
        return {
            place: end
            for place, end in self.waiting_in.items()
            if place in processed_offsets and end > processed_offsets[place]
        }

    def after(self, seconds: float, moving: TP | None = None) -> Mapping[TP, int]:
        """What stands still by then; `moving` has a message processed each second."""
        for _ in range(round(seconds)):
            if moving is not None:
                self.processed_offsets[moving] += 1
            if found := asyncio.run(self.stalls.check(1.0)):
                return found
        return {}


ASKED = LIMIT * ASK_AFTER
IN_TIME = ASKED + LIMIT + 5


def test_a_message_that_waits_for_too_long_is_a_stall() -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 6}
    assert worker.after(ASKED + LIMIT - 5) == {}
    assert worker.after(10) == {OBSERVATIONS: 6}


def test_a_worker_with_nothing_to_do_does_not_stand_still_and_is_not_held_to_what_came_last() -> None:
    worker = Guarded()
    assert worker.after(10 * LIMIT) == {}
    worker.waiting_in = {OBSERVATIONS: 6}  # which has come this moment
    assert worker.after(LIMIT - 5) == {}
    worker.processed_offsets[OBSERVATIONS] = 6
    assert worker.after(3 * LIMIT) == {}


def test_priors_that_are_read_first_are_no_stall_of_the_observations() -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 6, PRIORS: 10**6}
    assert worker.after(20 * LIMIT, moving=PRIORS) == {}


def test_nothing_is_a_stall_while_the_worker_waits_for_something_else_and_all_counts_anew_after_it() -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 6}
    worker.after(ASKED + LIMIT - 5)
    worker.is_blocked = True
    assert worker.after(20 * LIMIT) == {}
    worker.is_blocked = False
    assert worker.after(ASKED + LIMIT - 5) == {}
    assert worker.after(10) == {OBSERVATIONS: 6}


def test_a_model_at_work_is_slow_for_ten_times_as_long() -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 6}
    worker.is_busy = True
    assert worker.after((ASKED + LIMIT) / SLOW - 50) == {}
    assert worker.after(100) == {OBSERVATIONS: 6}


def test_a_partition_that_waits_for_its_turn_has_ten_times_as_long() -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 6}
    worker.has_queued = True
    assert worker.after((ASKED + LIMIT) / SLOW - 50, moving=OTHER) == {}
    assert worker.after(100, moving=OTHER) == {OBSERVATIONS: 6}


def test_a_partition_that_waits_for_nothing_stands_still_though_others_move() -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 6}
    assert worker.after(IN_TIME, moving=OTHER) == {OBSERVATIONS: 6}


def test_a_broker_that_does_not_say_what_waits_is_no_stall() -> None:
    worker = Guarded()
    worker.waiting_in, worker.away = {OBSERVATIONS: 6}, True
    assert worker.after(20 * LIMIT) == {}
    assert worker.asked > 0


def test_a_partition_that_moves_while_the_log_is_asked_does_not_stand_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Guarded()
    worker.waiting_in = {OBSERVATIONS: 10**6}

    async def waiting(processed_offsets: Mapping[TP, int]) -> dict[TP, int]:
        worker.processed_offsets[OBSERVATIONS] += 1
        return {OBSERVATIONS: 10**6}

    monkeypatch.setattr(worker, "waiting", waiting)
    assert worker.after(20 * LIMIT) == {}


def test_partitions_that_are_not_assigned_any_more_are_forgotten() -> None:
    clock = StallClock(LIMIT)
    clock.note({OBSERVATIONS: 5, OTHER: 7}, is_busy=False, has_queued=False, seconds=1.0)
    assert clock.note({OTHER: 7}, is_busy=False, has_queued=False, seconds=10 * LIMIT) == {1}


def test_what_waits_in_a_log_is_found_by_reading_it(embedded_broker: EmbeddedNode, names: Names) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=2)
    first, second = (TP(names.topics.observations, number) for number in range(2))

    async def ask() -> list[set[TP]]:
        async with AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers) as producer:
            for _ in range(3):
                await producer.send_and_wait(first.topic, b"{}", partition=0)
        backlog = BacklogReader(embedded_broker.bootstrap_servers, {})
        asked = [{first: 0, second: 0}, {first: 2, second: 0}, {first: 3, second: 0}]
        return [set(await backlog.waiting(processed_offsets)) for processed_offsets in asked]

    assert asyncio.run(ask()) == [{first}, {first}, set()]


@pytest.mark.kafka
def test_the_end_of_a_transaction_is_no_message_that_waits(kafka_broker: KafkaNode, names: Names) -> None:
    create(kafka_broker.bootstrap_servers, names.topics, partitions=1)
    place = TP(names.topics.observations, 0)

    async def ask() -> list[dict[TP, int]]:
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka_broker.bootstrap_servers, transactional_id=names.app_id
        )
        async with producer, producer.transaction():
            await producer.send(place.topic, b"{}", partition=0)
        backlog = BacklogReader(kafka_broker.bootstrap_servers, {})
        return [await backlog.waiting({place: processed_offset}) for processed_offset in (0, 1)]

    assert asyncio.run(ask()) == [{place: 2}, {}]


def test_a_worker_that_stands_still_ends_and_one_that_is_slow_does_not(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("FAULTS", str(tmp_path))
    with stream(embedded_broker, names, tmp_path) as opened:
        model, sensor, observations = linear_fleet(simulate(entities=2, duration=4.0, seed=1), 12)
        opened.define([model, sensor])
        worker = opened.worker(stall_seconds=5.0, measurements="tests.streams.faults").start()
        assert worker.metrics()["beliefstream_stalls_total"] == 0.0

        (tmp_path / "slow").write_text("9")
        opened.observations.send_message(observations[0])
        opened.posteriors.wait_for(len, 60, "the slow update is done")
        (tmp_path / "slow").unlink()

        (tmp_path / "stuck").touch()
        before = time.monotonic()
        for seen in observations[1:]:
            opened.observations.send_message(seen)
        opened.observations.flush()
        eventually(
            lambda: worker.metrics()["beliefstream_stalls_total"] == 1.0, 60, "the worker counts its stall"
        )
        assert time.monotonic() - before > 5.0
        assert worker.wait_until_ended(30) == 70
        (line,) = [line for line in worker.log().splitlines() if "partitions are stalled" in line]
        assert names.topics.observations in line

        (tmp_path / "stuck").unlink()
        worker.start()  # as a supervisor does
        opened.posteriors.wait_for(lambda records: len(records) == len(observations), 60, "all are done")
