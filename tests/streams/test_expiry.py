"""Entities that have gone quiet are forgotten by event time, and never so early that something is applied twice."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import faust
import numpy as np
import pytest
from faust.types import TP
from kafka.partitioner import default as partitioner

from inference.events import Belief
from schemas import Coordinate, Mixture, Model, Observation, PositionSensor, Posterior, RandomWalk, parse
from streams.beliefs import BeliefRecord
from streams.clients.duplicates import Duplicates
from streams.expiry import LEAST, RECENT, EventClock, Expiry
from streams.registry import Definitions
from streams.stores import BeliefStore, BeliefTable
from streams.topics import TopicNames
from tests.brokers import KafkaNode
from tests.conftest import Names, eventually
from tests.streams.oracle import distance, expected
from tests.streams.workers import PARTITIONS, Reading, Stream, stream

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
        options = {"directory": directory, "topic_id": lambda: "topic"}
        table: Any = app.Table("beliefs", key_type=bytes, value_type=bytes, partitions=1, options=options)
        self.store: BeliefStore = table.store
        self.store.partitions = {0}
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
        return {key for _, key in self.expiry.due(busy)}


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
    forgetting.keep("berta", at=10.0, heard=990.0)  # its own times are old, and it is heard of
    assert forgetting.at(1000.0) == set()
    assert forgetting.at(1052.1) == {b"berta"}


class Run:
    """One partition's worth of entities: some that go quiet, and others that let the time go on."""

    def __init__(self, opened: Stream, topic: str) -> None:
        self.stream, self.topic = opened, topic
        self.sent: list[Observation] = []
        names = (f"entity-{number}" for number in range(1000))
        self.names = iter([name for name in names if self._partition(name) == 0])
        self.others = [next(self.names) for _ in range(4)]
        self.changelog = opened._open(
            Reading(opened.broker.bootstrap_servers, opened.names.topics.beliefs_changelog)
        )

    @staticmethod
    def _partition(name: str) -> int:
        return int(partitioner.murmur2(name.encode()) & 0x7FFFFFFF) % PARTITIONS

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

    def forgotten(self, entity: str) -> bool:
        self.changelog.poll(0)
        of = [record.value for record in self.changelog.records if record.key.decode() == entity]
        return bool(of) and of[-1] is None

    def committed(self) -> int:
        return self.stream.committed(self.topic, 0)

    def newest_applied(self) -> int:
        """The newest offset that any record of the changelog knows of."""
        values = [record.value for record in self.changelog.records if record.value is not None]
        return max(BeliefRecord.decode(value).observation_offset for value in values)


@pytest.mark.chaos
@pytest.mark.kafka
def test_killed_between_tombstone_and_commit_nothing_forgotten_is_applied_again(
    kafka_broker: KafkaNode, names: Names, tmp_path: Path
) -> None:
    """The quiet entity's observations and those that make it expire come together, as in a backlog."""
    with stream(kafka_broker, names, tmp_path) as opened:
        opened.define([SENSOR, MODEL])
        run = Run(opened, names.topics.observations)
        settings = {"store": "rocksdb://", "data_directory": tmp_path / "beliefs"}
        worker = opened.worker(**settings).start()
        now, hit, quiet = 0.0, False, ""
        for _ in range(4):  # a commit comes once a second, and may come in between
            quiet, now = next(run.names), now + 1000.0
            last = run.send(quiet, now, count=5)
            now += 1000.0
            deadline = time.monotonic() + 60
            while not run.forgotten(quiet):
                assert time.monotonic() < deadline, worker.log()[-2000:]
                for other in run.others:
                    run.send(other, now, count=4)
                now += 0.5
            worker.kill()
            run.changelog.poll(0.5)
            assert run.committed() > last  # or else it would be delivered again
            hit = run.committed() <= run.newest_applied()
            worker = opened.worker(**settings).start()
            if hit:
                break
        assert hit, "a commit came each time before the kill"
        end = run.send(run.others[0], now)
        eventually(lambda: run.committed() > end, 60, "all has been processed")
        assert [posterior.sequence for posterior in run.posteriors(quiet)] == [1, 2, 3, 4, 5]
        assert run.forgotten(quiet)
        assert worker.metrics()["beliefstream_entities"] == len(run.others)

        run.send(quiet, now + 5000.0)
        eventually(lambda: len(run.posteriors(quiet)) == 6, 60, "the next observation is applied")
        every = run.posteriors(quiet)
        outcomes = expected(MODEL, [SENSOR], [seen for seen in run.sent if seen.entity == quiet])[quiet]
        assert max(distance(each.mixture, due) for each, due in zip(every, outcomes, strict=True)) < EXACT
        (first,) = expected(MODEL, [SENSOR], [run.sent[-1]])[quiet]
        assert distance(every[-1].mixture, first) < EXACT
        assert every[-1].sequence == 1
        assert worker.metrics()["beliefstream_entities"] == len(run.others) + 1
        duplicates = Duplicates()
        assert all(duplicates.is_new(posterior) for posterior in every)
        for other in run.others:
            applied = {name for posterior in run.posteriors(other) for name in posterior.applied}
            assert applied == {seen.id for seen in run.sent if seen.entity == other}
        opened.dead_letters.poll()
        assert opened.dead_letters.records == []
