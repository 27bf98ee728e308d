"""One run: a broker or three, workers that come back when they end, a workload, and faults one after another."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from beliefstream.schemas import Model
from beliefstream.streams.client import PriorPublisher, Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.topics import MESSAGE_BYTES
from tests.brokers import Broker, KafkaNode
from tests.chaos import verdict
from tests.chaos.actors import AimedWorker
from tests.chaos.progress import Committed, Place, Progress
from tests.chaos.proxy import Proxy
from tests.chaos.verdict import Failed
from tests.chaos.workload import Planted, Segment, Workload, beliefs
from tests.conftest import unique_names
from tests.streams.oracle import updater

MOST_AHEAD = 8_000  # observations that are sent and not applied yet
TRICKLE = 5  # messages at a time, if a fault has not been got over and the next is due
LASTING = 120.0  # seconds for which a fault may last without using up what the others are to meet
CHUNK = 500
STUCK_SECONDS = 240.0
RECOVERY_SECONDS = 180.0  # at most, after a fault
MOST_SHOWN = 10  # faults, of all that are found


@dataclass
class Line:
    """Of the report."""

    fault: str
    recovery: float  # seconds from the fault until every partition has posteriors again


Fault = Callable[["Stage"], Iterator[None]]
"""Does its harm, a step between any two turns of the run."""


BEHIND = 30.0  # seconds that the changelog may be behind the posteriors


@dataclass
class Stage:
    """What the faults act on.

    Args:
        broker: for the clients of the tests. front: for the workers; the same if there is no proxy.
        nodes: that can be killed.
        faults: by name, in order; spread over the workload.
        workers: how many there are as long as no fault changes it.
    """

    workload: Workload
    broker: Broker
    front: Broker
    nodes: list[KafkaNode]
    faults: list[tuple[str, Fault]]
    directory: Path
    proxy: Proxy | None = None
    workers: int = 2
    partitions: int = 8
    replication: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        self.random = random.Random(self.workload.seed)
        self.names = unique_names()
        self.crew: list[AimedWorker] = []
        self.everyone: list[AimedWorker] = []  # who has ever been of it
        self.allowed: set[str] = set()  # texts: an error that holds one of them is what a fault was to do
        self.lines: list[Line] = []
        self.restarts = self.lost = self.double = 0
        self.holding = False  # whether a fault wants nothing to be sent
        self._due: dict[str, int] = {}
        self._planted: Counter[Place] = Counter()
        servers, chosen = self.broker.bootstrap_servers, self.names.topics
        topics.create(servers, chosen, partitions=self.partitions, replication=self.replication)
        self._producer = KafkaProducer(
            bootstrap_servers=servers.split(","),
            max_request_size=MESSAGE_BYTES,
            linger_ms=20,
            delivery_timeout_ms=300_000,
        )
        self._priors = PriorPublisher(servers, chosen.priors)
        self._registry = Registry(servers, chosen.sensors, chosen.models)
        self.progress = Progress(servers, chosen, self.partitions)
        self._turns: Iterator[None] = iter(())
        self._sent, self._until_next = 0, 0.0
        spare = 0.5 * self.workload.observations / max(1, len(self.faults))  # of each fault's share
        self._trickle_seconds = LASTING * TRICKLE / spare

    def new_worker(self, place: int, aim: str = "", **others: Any) -> AimedWorker:
        """For that place in the crew, whose local store it goes on with; not started."""
        directory = self.directory / f"data-{place}"
        settings: dict[str, Any] = {"partitions": self.partitions, "batch": 256}
        settings |= {"data_directory": directory} | self.settings | others
        worker = AimedWorker(self.front, self.names, self.directory, aim=aim, **settings)
        self.everyone.append(worker)
        return worker

    def tend(self) -> None:
        """Who has ended is started again, as an orchestrator does."""
        for place, worker in enumerate(self.crew):
            if worker.running:
                continue
            self.restarts += 1
            self.crew[place] = self.new_worker(place).launch()

    def run(self) -> list[Line]:
        """Sends everything, through all faults; returns the report's lines.

        Raises Failed if the promise was broken.
        """
        try:
            self.crew = [self.new_worker(place).launch() for place in range(self.workers)]
            self._turns = self._through_faults()
            for number in range(self.workload.segments):
                self._pass_segment(self.workload.segment(number))
            self._wait_for_faults()
            self._check()
            return self.lines
        finally:
            for worker in self.everyone:
                worker.stop()
            for client in (self._producer, self._priors, self._registry, self.progress):
                client.close()

    def come_to_rest(self, seconds: float) -> Iterator[None]:
        """Yields until all that has been sent is dealt with; nothing more is, until `holding` is taken back."""
        self.holding = True
        self._producer.flush()
        committed = Committed(
            self.broker.bootstrap_servers, self.names.app_id, self.names.topics.observations
        )
        limit = time.monotonic() + seconds
        try:
            while not committed.reached_end(self.partitions):
                if time.monotonic() > limit:
                    raise self._failed(f"not within {seconds:g} s: all that was sent is dealt with")
                yield
        finally:
            committed.close()

    def send_in_vain(self, count: int) -> None:
        """Sound observations that no posterior may name, for they are to be deleted before they are read."""
        for key, value in self.workload.doomed(count):
            self._producer.send(self.names.topics.observations, key=key, value=value)
        self._producer.flush()

    def _wait_for_faults(self) -> None:
        """Those that are under way or due when all has been sent."""
        done, since = len(self.lines), time.monotonic()
        while len(self.lines) < len(self.faults):
            self._turn(0.2)
            if len(self.lines) > done:
                done, since = len(self.lines), time.monotonic()
            if time.monotonic() - since > STUCK_SECONDS:
                name = self.faults[done][0]
                raise self._failed(f"not within {STUCK_SECONDS:g} s: {name} is got over")

    def _pass_segment(self, segment: Segment) -> None:
        for definition in [*segment.definitions, segment.probe]:
            if isinstance(definition, Model):
                self._registry.set_model(definition)
            else:
                self._registry.set_sensor(definition)
        self._begin_with_priors(segment)
        for entity, count in segment.counts.items():
            self._due[entity] = self._due.get(entity, 0) + count
        total, seen = sum(self._due.values()), set[bytes]()
        before = self.progress.applied
        place = 0
        while place < len(segment.messages):
            spent = self._sent >= self._until_next
            part = segment.messages[place : place + (TRICKLE if spent else CHUNK)]
            for message in part:
                self._send(message)
                if not isinstance(message, Planted):
                    seen.add(message[1])
            place += len(part)
            self._sent = before + len(seen)
            now = time.monotonic()
            self._wait(
                partial(self._wants_more, now + self._trickle_seconds if spent else now),
                "the workers keep up",
            )
        self._producer.flush()
        self._wait(lambda: self.progress.missing(self._due) == 0, f"all {total} messages are applied")
        self.say(f"segment {segment.number + 1} of {self.workload.segments}: {total} messages applied")

    def _wants_more(self, earliest: float) -> bool:
        """Whether to send on, at the given time or once the fault has been got over."""
        if self.holding:
            return False
        ahead = self._sent - self.progress.applied
        return ahead < MOST_AHEAD and (time.monotonic() >= earliest or self._sent < self._until_next)

    def _begin_with_priors(self, segment: Segment) -> None:
        places = [self._priors.send_message(prior).result(120) for prior in segment.priors]
        ends: dict[int, int] = {}
        for place in places:
            ends[place.partition] = max(ends.get(place.partition, 0), place.offset + 1)
        committed = Committed(self.broker.bootstrap_servers, self.names.app_id, self.names.topics.priors)
        try:
            self._wait(lambda: committed.reached(ends), "the priors are read", pause=0.2)
        finally:
            committed.close()

    def _send(self, message: tuple[bytes, bytes] | Planted) -> None:
        topic = self.names.topics.observations
        if isinstance(message, Planted):
            place = self._producer.send(topic, key=message.key, value=message.value).get(120)
            self._planted[place.topic, place.partition, place.offset, message.value] += 1
        else:
            self._producer.send(topic, key=message[0], value=message[1])

    def _turn(self, pause: float = 0.0) -> None:
        self.progress.poll(pause)
        self.tend()
        next(self._turns, None)

    def _wait(self, condition: Callable[[], bool], what: str, pause: float = 0.05) -> None:
        last, since = self.progress.applied, time.monotonic()
        self._turn()
        while not condition():
            self._turn(pause)
            if (applied := self.progress.applied) != last:
                last, since = applied, time.monotonic()
            if time.monotonic() - since > STUCK_SECONDS:
                raise self._failed(f"not within {STUCK_SECONDS:g} s: {what}")

    def _failed(self, what: str) -> Failed:
        """With the state of the run."""
        logs = "\n".join(f"{worker.name}: {worker.log()[-2000:]}" for worker in self.crew)
        state = f"applied {self.progress.applied}, missing {self.progress.missing(self._due)}, {self.lines}"
        return Failed(f"seed {self.workload.seed}: {what}; {state}\n{logs}")

    def _through_faults(self) -> Iterator[None]:
        """Each at its share of the way, one after another."""
        total, count = self.workload.observations, len(self.faults)
        shares = [0.9 * total * (turn + self.random.uniform(0.2, 0.8)) / count for turn in range(count)]
        self._until_next = shares[0] if shares else math.inf
        ends = [*shares[1:], shares[-1] + 0.3 * (total - shares[-1])] if shares else []
        for (name, fault), share, following in zip(self.faults, shares, ends, strict=True):
            while self.progress.applied < share:
                yield
            self._until_next = following
            self.say(f"{name} at {self.progress.applied}")
            started = time.monotonic()
            yield from fault(self)
            yield from self._recovery(name)
            self.lines.append(Line(name, time.monotonic() - started))
        self._until_next = math.inf

    def _recovery(self, name: str) -> Iterator[None]:
        harmed, limit = dict(self.progress.grown), time.monotonic() + RECOVERY_SECONDS
        while not all(worker.ready for worker in self.crew) or not self.grown(harmed):
            if time.monotonic() > limit:
                raise self._failed(f"not within {RECOVERY_SECONDS:g} s: recovery from {name}")
            yield

    def grown(self, harmed: dict[int, int]) -> bool:
        """Whether every partition has had posteriors since; or there is nothing left to come."""
        if self.progress.missing(self._due) == 0:
            return True
        return all(self.progress.grown[n] > harmed.get(n, 0) for n in range(self.partitions))

    def _check(self) -> None:
        """What the topics, the replay and the workers' logs say; raises Failed."""
        progress, due, faults = self.progress, self._due, self.progress.faults
        for _ in range(5):
            progress.poll(0.2)
        self.lost, self.double = progress.missing(due), progress.double(due)
        if self.lost or self.double:
            faults.append(f"{self.lost} messages are lost, {self.double} applied twice")
        faults.extend(verdict.dead_letters(progress.letters, self._planted))
        faults.extend(verdict.logs(self.everyone, self.allowed))
        topic = self.names.topics.beliefs_changelog
        exact = beliefs(self.workload, updater())
        limit = time.monotonic() + BEHIND
        while True:  # a worker writes beliefs after their posteriors, which are all there
            kept = verdict.changelog(self.broker.bootstrap_servers, topic, self.partitions)
            differing, apart = verdict.against(exact, progress.entities, kept, due)
            if not differing or time.monotonic() > limit:
                break
            progress.poll(1.0)
        faults.extend(differing)
        self.say(f"largest distance to the replay {apart:.1e}, in posteriors and changelog")
        if faults:
            more = f" and {len(faults) - MOST_SHOWN} more" if len(faults) > MOST_SHOWN else ""
            raise Failed(f"seed {self.workload.seed}: " + "; ".join(faults[:MOST_SHOWN]) + more)
