"""Entities that have gone quiet are forgotten by event time, and never so early that something is applied twice."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faust
import numpy as np
import pytest
from faust.types import TP
from kafka.partitioner import default as partitioner

from beliefstream.inference.tracking.events import Belief
from beliefstream.schemas import (
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    RandomWalk,
    parse,
)
from beliefstream.streams.client.posteriors import Duplicates
from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.expiry import LEAST, RECENT, EventClock, Expiry
from beliefstream.streams.state.record import BeliefRecord
from beliefstream.streams.state.stores import BeliefStore
from beliefstream.streams.state.table import BeliefTable
from tests.brokers import KafkaNode
from tests.conftest import Names, eventually
from tests.streams.oracle import distance, expected
from tests.streams.workers import PARTITIONS, Reading, Stream, Worker, stream

EXPIRES = 60.0  # seconds
MODEL = Model(
    entity="*",
    name="walker",
    motion=RandomWalk(spectral_density=1.0),
    coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
    prior=Mixture.gaussian((0, 0), standard_deviations=(30, 30)),
    expires_after=EXPIRES,
)
SENSOR = PositionSensor(sensor="gps", standard_deviation=1.0)
EXACT = 1e-8
WAIT = 90.0  # seconds; a few on an idle machine


def test_one_wrong_clock_does_not_move_the_time_of_a_partition() -> None:
    clock = EventClock()
    clock.note(range(LEAST - 1))
    assert clock.now == -math.inf
    clock.note([100.0] * RECENT)
    assert clock.now == 100.0
    clock.note([1e12] * (RECENT // 2))
    assert clock.now == 100.0
    clock.note([5.0] * (RECENT // 8))
    assert clock.now == 100.0
    clock.note([200.0] * RECENT)
    assert clock.now == 200.0


class Forgetting:
    """Expiry over a store with records of some entities in partition 0; what is committed is up to the test."""

    def __init__(self, url: str, directory: Path) -> None:
        app = faust.App("app", broker="kafka://127.0.0.1:1", store=url, Table=BeliefTable)

        async def topic() -> str:
            return "topic"

        options = {"directory": directory, "topic_id": topic}
        table: Any = app.Table("beliefs", key_type=bytes, value_type=bytes, partitions=1, options=options)
        self.store: BeliefStore = table.store
        place = TP("app-beliefs-changelog", 0)
        asyncio.run(self.store.on_rebalance({place}, set(), {place}))
        self.definitions = Definitions("sensors", "models")
        self.committed = {TP("observations", 0): 1000, TP("priors", 0): 1000}
        self.expiry = Expiry(TopicNames(), self.definitions, self.store, self.committed.__getitem__)
        self.define("*", EXPIRES)

    def define(self, entity: str, expires_after: float | None) -> None:
        model = MODEL.model_copy(update={"entity": entity, "expires_after": expires_after})
        record = type("Record", (), {"topic": "models", "key": entity.encode(), "value": model.to_json()})
        self.definitions.apply(record)

    def keep(self, entity: str, at: float, **fields: Any) -> None:
        belief = Belief(at, np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
        record = BeliefRecord.of(belief, ("x", "y"), **{"observation_offset": 7, **fields})
        self.store.write(0, {entity.encode(): record.encode()}, 0)

    def at(self, now: float, *busy: bytes) -> set[bytes]:
        """What is due at that time, once it has been searched for."""
        self.expiry.note(0, [now] * RECENT)
        self.expiry._found.extend(self.expiry._all_expired({0: self.expiry.now(0)}))
        self.expiry._next_search = math.inf
        return {key for _, key in self.expiry.due({(0, key) for key in busy})}


@pytest.fixture(params=["memory://", "rocksdb://"])
def forgetting(request: pytest.FixtureRequest, tmp_path: Path) -> Forgetting:
    return Forgetting(request.param, tmp_path)


def test_what_is_quiet_for_so_long_and_the_window_is_due(forgetting: Forgetting) -> None:
    forgetting.keep("anna", at=10.0)
    forgetting.keep("berta", at=50.0)
    assert forgetting.at(72.0) == set()
    assert forgetting.at(72.1) == {b"anna"}
    assert forgetting.at(72.1, b"anna") == set()  # a message of it is in this very batch
    assert forgetting.at(200.0) == {b"anna", b"berta"}
    forgetting.store.partitions = set()
    assert forgetting.at(200.0) == set()


def test_an_entitys_own_model_decides(forgetting: Forgetting) -> None:
    for entity in ("anna", "berta", "clara"):
        forgetting.keep(entity, at=10.0)
    forgetting.define("anna", None)
    forgetting.define("berta", 500.0)
    assert forgetting.at(400.0) == {b"clara"}
    forgetting.define("*", None)
    assert forgetting.at(400.0) == set()
    assert forgetting.definitions.expire
    forgetting.define("berta", None)
    assert not forgetting.definitions.expire


def test_nothing_is_due_that_redelivery_could_bring_again(forgetting: Forgetting) -> None:
    forgetting.keep("anna", at=10.0, observation_offset=41, prior_offset=5)
    forgetting.committed |= {TP("observations", 0): 41, TP("priors", 0): 6}  # 41 is delivered again
    assert forgetting.at(1000.0) == set()
    forgetting.committed |= {TP("observations", 0): 42, TP("priors", 0): 5}
    assert forgetting.at(1000.0) == set()
    forgetting.committed |= {TP("observations", 0): 42, TP("priors", 0): 6}
    assert forgetting.at(1000.0) == {b"anna"}


def test_a_prior_that_waits_and_a_clock_that_is_behind_keep_an_entity(forgetting: Forgetting) -> None:
    forgetting.keep("anna", at=10.0, pending=[(3, b"{}")])
    forgetting.keep("berta", at=10.0, last_seen=990.0)  # its own times are old, and it was seen later
    assert forgetting.at(1000.0) == set()
    assert forgetting.at(1052.1) == {b"berta"}


def test_entities_that_wait_for_a_prior_take_no_time_of_a_batch(forgetting: Forgetting) -> None:
    forgetting.keep("anna", at=10.0, pending=[(3, b"{}")])
    forgetting.keep("berta", at=10.0)
    assert forgetting.expiry._all_expired({0: 1000.0}) == [(0, b"berta")]


class Run:
    """One partition's worth of entities: some that go quiet, and others that let the time go on."""

    def __init__(self, opened: Stream, directory: Path) -> None:
        self.stream, self.topic = opened, opened.names.topics.observations
        self._directory, self._held = directory, directory / "held"
        self.sent: list[Observation] = []
        self.now = 0.0
        names = (f"entity-{number}" for number in range(1000))
        self.names = (name for name in names if self._partition(name) == 0)
        self.others = [next(self.names) for _ in range(4)]
        servers = opened.broker.bootstrap_servers
        self.changelog = opened._open(Reading(servers, opened.names.topics.beliefs_changelog))

    @staticmethod
    def _partition(name: str) -> int:
        return int(partitioner.murmur2(name.encode()) & 0x7FFFFFFF) % PARTITIONS

    def worker(self) -> Worker:
        worker = self.stream.worker(store="rocksdb://", data_directory=self._directory / "beliefs")
        worker.module = "tests.streams.held_worker"
        worker.environment["HOLD"] = str(self._held)
        return worker.start()

    def hold(self) -> None:
        """No commit succeeds from now on."""
        self._held.touch()

    def release(self) -> None:
        """Commits succeed again."""
        self._held.unlink()

    def send(self, entity: str, at: float, count: int = 1) -> int:
        """Observations a tenth of a second apart; the offset of the last."""
        for number in range(count):
            seen = Observation(
                entity=entity,
                sensor="gps",
                time=at + 0.1 * number,
                value=(math.sin(at + number), 5.0),
                id=f"{len(self.sent)}",
            )
            self.sent.append(seen)
            place = self.stream.observations.send_message(seen)
        return int(place.result(30).offset)

    def posteriors(self, entity: str) -> list[Posterior]:
        """All there are by now, those sent twice included."""
        count = -1
        while count < (count := len(self.stream.posteriors.records)):
            self.stream.posteriors.poll()
        records = self.stream.posteriors.records
        return [parse(Posterior, record.value) for record in records if record.key.decode() == entity]

    def is_applied(self, seen: Observation) -> bool:
        """Whether a posterior names it, among the last of all."""
        self.stream.posteriors.poll()
        newest = self.stream.posteriors.records[-4 * len(self.others) :]
        return any(seen.id in parse(Posterior, record.value).applied for record in newest)

    def forgotten(self, entity: str) -> bool:
        self.changelog.poll(0)
        of = [record.value for record in self.changelog.records if record.key.decode() == entity]
        return bool(of) and of[-1] is None

    def committed(self) -> int:
        return self.stream.committed(self.topic, 0)

    def check_next(self, quiet: str) -> None:
        """Its next observation starts from the prior, and no reader takes it for a duplicate."""
        self.send(quiet, self.now + 5000.0)
        before = self.posteriors(quiet)
        eventually(
            lambda: self.posteriors(quiet)[-1].time > self.now, WAIT, "the next observation is applied"
        )
        *_, last = self.posteriors(quiet)
        (first,) = expected(MODEL, [SENSOR], [self.sent[-1]])[quiet]
        assert distance(last.mixture, first) < EXACT
        assert last.sequence == 1
        outcomes = expected(MODEL, [SENSOR], [seen for seen in self.sent if seen.entity == quiet])[quiet]
        duplicates = Duplicates()
        taken = [posterior for posterior in [*before, last] if duplicates.is_new(posterior)]
        assert max(distance(each.mixture, due) for each, due in zip(taken, outcomes, strict=True)) < EXACT

    def check_others(self) -> None:
        for other in self.others:
            named = {name for posterior in self.posteriors(other) for name in posterior.applied}
            assert named == {seen.id for seen in self.sent if seen.entity == other}
        self.stream.dead_letters.poll()
        assert self.stream.dead_letters.records == []

    def let_time_go_on(self, until: Callable[[], Any], what: str) -> int:
        """Sends observations of the others, from where they were on; the offset of the last.

        The next ones are sent when these are applied. Otherwise a worker that starts slowly finds so many that it does
        not get through them within the limit.
        """
        deadline = time.monotonic() + WAIT
        while not until():
            last = [self.send(other, self.now, count=4) for other in self.others]
            self.now += 0.5
            eventually(lambda: until() or self.is_applied(self.sent[-1]), deadline - time.monotonic(), what)
        return last[-1]


@pytest.fixture
def run(kafka_broker: KafkaNode, names: Names, tmp_path: Path) -> Iterator[Run]:
    with stream(kafka_broker, names, tmp_path) as opened:
        opened.define([SENSOR, MODEL])
        yield Run(opened, tmp_path)


def wait_for_entities(worker: Worker, count: int) -> None:
    eventually(
        lambda: worker.metrics()["beliefstream_entities"] == count, WAIT, f"the worker holds {count} entities"
    )


@pytest.mark.chaos
@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_killed_between_tombstone_and_commit_nothing_is_applied_again(run: Run) -> None:
    gone, kept = next(run.names), next(run.names)
    worker = run.worker()
    place = run.send(gone, at=0.0, count=5)
    eventually(lambda: run.committed() > place, WAIT, "the first one's observations are committed")
    run.hold()
    run.send(kept, at=0.0, count=5)
    run.now = 1000.0
    run.let_time_go_on(lambda: run.forgotten(gone), "the first one is forgotten")
    worker.kill()
    assert run.committed() == place + 1
    run.changelog.poll(1.0)
    assert not run.forgotten(kept), "its observations are delivered again, and nothing would know them"

    run.release()
    worker = run.worker()
    run.let_time_go_on(lambda: run.forgotten(kept), "now the second one is forgotten too")
    end = run.send(run.others[0], run.now)
    eventually(lambda: run.committed() > end, WAIT, "all is committed")
    for quiet in (gone, kept):
        assert [posterior.sequence for posterior in run.posteriors(quiet)] == [1, 2, 3, 4, 5]
        assert run.forgotten(quiet)
    wait_for_entities(worker, len(run.others))
    run.check_next(gone)
    wait_for_entities(worker, len(run.others) + 1)  # the posterior comes before the belief
    run.check_others()
