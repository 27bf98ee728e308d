"""Two workers are replaced one after the other under a steady stream: posteriors pause for the rebalances only."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.brokers import KafkaNode
from tests.conftest import Names, eventually
from tests.streams.worker.test_restart import Run
from tests.streams.worker.test_two_workers import TAKE_OVER, owned
from tests.streams.workers import PARTITIONS, SESSION, Stream, Worker, stream

PAUSE = 0.05  # seconds between two sendings
AT_ONCE = 5  # observations
HEARTBEAT = SESSION / 4  # seconds until a worker hears that another has left or come
CALM = 3.0  # seconds
LONGEST = SESSION + 14.0  # seconds that a pause may last, however long the rebalances took


class Steady:
    """Sends a log at a steady rate in the background, and the rest of it at once when there is no more to see."""

    def __init__(self, run: Run) -> None:
        self._run, self._enough = run, threading.Event()
        self._thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        observations = self._run.observations
        for start in range(0, len(observations), AT_ONCE):
            for seen in observations[start : start + AT_ONCE]:
                self._run.stream.observations.send_message(seen)
            self._enough.wait(PAUSE)
        self._run.stream.observations.flush()

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
            assert self._thread.is_alive(), "the stream was too short"
        finally:
            self._enough.set()
            self._thread.join()


class Readiness:
    """When a worker was not ready, by its own page."""

    def __init__(self, worker: Worker) -> None:
        self._worker, self._stop = worker, threading.Event()
        self._seen: list[tuple[float, bool]] = []
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            self._seen.append((time.time(), self._worker.page("/readyz")[0] == 200))

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def longest_absence(self) -> float:
        """Seconds from the last look that found it ready to the first that did again."""
        ready = [moment for moment, there in self._seen if there]
        return max(after - before for before, after in pairwise(ready))


def pauses(opened: Stream, begin: float, end: float) -> dict[int, float]:
    """The longest pause between posteriors of each partition, seconds."""
    found = {}
    for partition in range(PARTITIONS):
        stamps = [each.timestamp / 1000 for each in opened.posteriors.records if each.partition == partition]
        moments = sorted([begin, *(stamp for stamp in stamps if begin < stamp < end), end])
        found[partition] = max(after - before for before, after in pairwise(moments))
    return found


@pytest.mark.soak
@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_posteriors_pause_for_the_rebalances_only(
    kafka_broker: KafkaNode, names: Names, tmp_path: Path
) -> None:
    with stream(kafka_broker, names, tmp_path) as opened:
        run, topic = Run(opened, entities=40, duration=150.0), names.topics.observations
        workers = [opened.worker().launch() for _ in range(2)]
        for worker in workers:
            worker.wait_until_ready()
        eventually(lambda: shared(workers, topic), TAKE_OVER, "both have partitions")
        run.send_prior()
        upgrades: list[
            tuple[float, float, float]
        ] = []  # begin, end, and the longest absence of the one that stays
        with Steady(run).running():
            run.wait_for_posteriors(100)
            began = time.time()
            eventually(lambda: opened.posteriors.poll() or time.time() > began + CALM, 60, "a calm while")
            calm = began, time.time()
            for _ in range(2):
                leaving, staying = workers
                began = time.time()
                readiness = Readiness(staying)
                with readiness.watched():
                    assert leaving.terminate() == 0, leaving.log()[-2000:]
                    joined = opened.worker().start()
                    workers = [staying, joined]
                    eventually(lambda: shared(workers, topic), TAKE_OVER, "both have partitions")  # noqa: B023
                run.wait_for_posteriors(len(opened.posteriors.records) + 100)
                upgrades.append((began, time.time(), readiness.longest_absence()))
        print(run.check())
        run.wait_until_all_is_committed()
        usual = max(pauses(opened, *calm).values())
        for begin, end, rebalance in upgrades:
            found = pauses(opened, begin, end)
            print(f"rebalance {rebalance:.2f} s, pauses {found}, {usual:.2f} s before")
            assert max(found.values()) < min(rebalance + HEARTBEAT + 2 * usual + 1.0, LONGEST)


def shared(workers: list[Worker], topic: str) -> bool:
    """Whether all partitions are owned, each by one of the workers, and each has some."""
    parts = [owned(worker, topic) for worker in workers]
    return all(parts) and sum(map(len, parts)) == PARTITIONS
