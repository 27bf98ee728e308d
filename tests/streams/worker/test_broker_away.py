"""A worker whose broker does not answer says so within seconds, logs little, goes on by itself, and can be ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiokafka import AIOKafkaProducer

from beliefstream.streams.kafka.reachability import AWAY_SECONDS, STARTING_SECONDS, Reachability
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.worker.process import GRACE_SECONDS
from tests.brokers import EmbeddedNode, KafkaNode
from tests.conftest import Names, eventually
from tests.streams.oracle import linear_fleet
from tests.streams.worker.test_restart import SMALL_BATCH, Run
from tests.streams.workers import Stream, Worker, stream

NOTICED = 15.0  # seconds until /readyz says that a broker is away
BACK = 60.0  # seconds until a worker is ready again: its session may have ended
ENDS = 30.0  # seconds between SIGTERM and the end
QUIET_LINES = 30  # of a worker without a broker for some seconds: 115 a second without throttling


SIGNALLED = """
import asyncio

import faust
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.worker import process

process.STOP_SECONDS = 0.1
asyncio.run(process.Runner(faust.App("worker"), Reachability([])).on_signal())
"""


@pytest.fixture
def own_broker() -> Iterator[EmbeddedNode]:
    """One that can be suspended and killed."""
    with EmbeddedNode() as broker:
        yield broker


def send(broker: EmbeddedNode, signal_: int) -> None:
    """To the broker itself, which is its guard's only child."""
    assert broker._process is not None
    guard = broker._process._guard.pid
    os.kill(int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0]), signal_)


def said(worker: Worker, text: str) -> bool:
    return text in worker.log()


def told(worker: Worker) -> bool:
    status, body = worker.page("/readyz")
    return status == 503 and "no broker answers" in body


def test_a_broker_that_is_away_is_seen_and_a_worker_without_one_ends_cleanly(
    own_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    with stream(own_broker, names, tmp_path) as opened:
        model, sensor, observations = linear_fleet(simulate(entities=4, duration=4.0, seed=1), 40)
        opened.define([model, sensor])
        worker = opened.worker(store="rocksdb://", data_directory=tmp_path / "beliefs").start()
        publish(opened, observations[:20])
        assert worker.metrics()["beliefstream_broker_reachable"] == 1.0

        send(own_broker, signal.SIGSTOP)  # connections stay open, and nothing is answered
        lines = len(worker.log().splitlines())
        eventually(lambda: told(worker), NOTICED, "/readyz says that no broker answers")
        found = worker.metrics()
        assert (found["beliefstream_broker_reachable"], found["beliefstream_ready"]) == (0.0, 0.0)
        eventually(lambda: said(worker, "the broker is unreachable"), NOTICED, "the log says it")
        send(own_broker, signal.SIGCONT)
        eventually(lambda: worker.page("/readyz")[0] == 200, BACK, "the worker is ready again")
        publish(opened, observations[20:])
        eventually(lambda: said(worker, "the broker is reachable again"), NOTICED, "the log says it")

        assert own_broker._process is not None
        own_broker._process.kill()  # connections are refused
        eventually(lambda: worker.page("/readyz")[0] == 503, NOTICED, "/readyz says that no broker answers")
        assert len(worker.log().splitlines()) - lines < QUIET_LINES
        before = time.monotonic()
        assert worker.terminate() == 0, worker.log()[-3000:]
        took = time.monotonic() - before
        assert took < ENDS
        # Faust may have committed all and ended by itself, before a worker gives up
        assert took < GRACE_SECONDS or said(worker, "the worker ends without a commit")
        assert "Traceback" not in worker.log()


def publish(opened: Stream, observations: list[Any]) -> None:
    """And wait for the posteriors."""
    due = len(opened.posteriors.records) + len(observations)
    for seen in observations:
        opened.observations.send_message(seen)
    opened.observations.flush()
    opened.posteriors.wait_for(lambda records: len(records) >= due, BACK, f"{due} posteriors")


@pytest.mark.soak
@pytest.mark.kafka
def test_a_worker_that_is_ended_without_its_broker_in_mid_stream_loses_nothing(
    names: Names, tmp_path: Path
) -> None:
    with KafkaNode() as broker, stream(broker, names, tmp_path) as opened:
        run = Run(opened, entities=40, duration=50.0)
        worker = opened.worker(batch=SMALL_BATCH).start()
        run.send_prior()
        run.send(run.observations)
        done = run.wait_for_posteriors(len(run.observations) // 3)
        broker.kill()
        before = time.monotonic()
        assert worker.terminate() == 0, worker.log()[-3000:]
        assert time.monotonic() - before < ENDS
        assert done < len(run.observations), "the worker was too fast to be ended in mid-stream"
        broker.start()
        opened.worker().start()
        print(run.check())
        run.wait_until_all_is_committed()


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_broker_is_away_only_after_some_seconds_without_an_answer(
    embedded_broker: EmbeddedNode, names: Names
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=1)
    clock = Time()

    async def run() -> list[str | None]:
        found = []
        reachability = Reachability(names.topics, clock)
        producer = AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
        await producer.start()
        try:
            for at in (0.0, AWAY_SECONDS / 2, AWAY_SECONDS * 1.4):
                clock.now = at
                await reachability.ask_once(producer.client)
                found.append(reachability.fault)
        finally:
            await producer.stop()
        for after in (AWAY_SECONDS, AWAY_SECONDS + 0.1):
            clock.now = at + after
            await reachability.ask_once(None)
            found.append(reachability.fault)
        return found

    assert asyncio.run(run()) == [None, None, None, None, "no broker answers"]


@pytest.mark.parametrize("at", [1.0, AWAY_SECONDS + 1.0])
def test_partitions_without_a_leader_are_named_once_that_lasts(
    monkeypatch: pytest.MonkeyPatch, at: float
) -> None:
    clock = Time()
    reachability = Reachability(["observations"], clock)
    clock.now = at

    async def lacking(*_: Any) -> list[str]:
        return [f"observations-{number}" for number in range(5)]

    monkeypatch.setattr("beliefstream.streams.kafka.reachability.without_leader", lacking)
    monkeypatch.setattr("beliefstream.streams.kafka.reachability.nodes", lambda client: [1])
    client: Any = object()
    asyncio.run(reachability.ask_once(client))
    named = "partitions have no leader: observations-0, observations-1, observations-2 and 2 more"
    assert reachability.fault == (named if at > AWAY_SECONDS else None)


def test_a_topic_that_does_not_exist_is_named(embedded_broker: EmbeddedNode, names: Names) -> None:
    clock = Time()
    reachability = Reachability([names.topics.observations], clock)

    async def ask() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
        await producer.start()
        try:
            clock.now = AWAY_SECONDS + 1
            await reachability.ask_once(producer.client)
        finally:
            await producer.stop()

    asyncio.run(ask())
    missing = f"topics that do not exist, or are not to be seen: {names.topics.observations}"
    assert reachability.fault == missing


def test_another_broker_is_asked_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    reachability, asked = Reachability([]), list[int]()

    async def answer(client: Any, node: int, names: Any) -> list[str]:
        asked.append(node)
        if node == 1:
            raise TimeoutError
        return []

    monkeypatch.setattr("beliefstream.streams.kafka.reachability.without_leader", answer)
    monkeypatch.setattr("beliefstream.streams.kafka.reachability.nodes", lambda client: [1, 2])
    client: Any = object()
    for _ in range(3):
        asyncio.run(reachability.ask_once(client))
    assert asked == [1, 2, 1]


def test_it_is_said_once_that_a_broker_is_away_and_once_that_it_is_back() -> None:
    clock = Time()
    reachability = Reachability([], clock)
    with structlog.testing.capture_logs() as lines:
        for clock.now in (1.0, AWAY_SECONDS + 1, STARTING_SECONDS + 1, STARTING_SECONDS + 2):
            reachability._log_change()
        reachability._last = clock.now = STARTING_SECONDS + 3
        reachability._log_change()
        reachability._log_change()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("the broker is unreachable, the worker waits", "error"),
        ("the broker is reachable again", "warning"),
    ]
    assert lines[1]["seconds"] == STARTING_SECONDS + 3


def test_the_time_in_which_a_worker_was_suspended_does_not_count() -> None:
    clock = Time()
    reachability = Reachability([], clock)
    reachability._answered = True
    for clock.now in (0.0, 1.0):
        reachability._discount_pause()
    clock.now = 60.0  # suspended since 1.0
    assert reachability.fault is None
    reachability._discount_pause()
    assert reachability.fault is None
    for clock.now in range(61, 61 + round(AWAY_SECONDS)):
        reachability._discount_pause()
    assert reachability.fault == "no broker answers"


def test_a_worker_whose_services_do_not_stop_ends_though_a_broker_answers() -> None:
    ended = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "the services have not stopped within 0.1 s" in ended.stdout + ended.stderr
