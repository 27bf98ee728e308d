"""A worker that is killed or stopped in mid-stream and started again loses nothing and applies nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.schemas import Mixture, Observation, Posterior, Prior
from beliefstream.streams.local.simulated_fleet import simulate
from tests.brokers import Broker, KafkaNode
from tests.conftest import Names, eventually
from tests.streams.oracle import (
    check_ends,
    check_order,
    delayed,
    distance,
    expected,
    linear_fleet,
    messages_of,
)
from tests.streams.workers import PARTITIONS, Stream, Worker, dead_letters_of, posteriors_of, stream

SMALL_BATCH = 32  # so that a kill meets many of them
EXACT = 1e-8
WAIT = 60.0  # seconds


class Run:
    """A stream with a log whose posteriors are known, sent in parts.

    Args:
        stated: the number of the observation before which its entity gets a prior.
    """

    def __init__(
        self, opened: Stream, entities: int, duration: float, delay: float = 0.0, stated: int = -1
    ) -> None:
        self.stream = opened
        simulation = simulate(entities=entities, duration=duration, seed=6)
        model, sensor, self.observations = linear_fleet(simulation, len(simulation.observations))
        # one that waits for its time while workers come and go
        after = self.observations[stated]
        self.prior = Prior(
            entity=after.entity,
            time=after.time - 1e-3,
            mixture=Mixture.gaussian((1.0, 2.0, 3.0, 4.0), 1.0),
            mode="product",
        )
        self.outcomes: dict[str, list[Outcome]] = expected(model, [sensor], self.observations, [self.prior])
        self.observations = delayed(self.observations, delay)
        opened.define([model, sensor])

    def send(self, observations: list[Observation]) -> None:
        for seen in observations:
            self.stream.observations.send_message(seen)
        self.stream.observations.flush()

    def send_prior(self) -> None:
        """And wait until the worker has it, for it must come ahead of the observations after its time."""
        place = self.stream.priors.send_message(self.prior).result(30)
        topic = self.stream.names.topics.priors
        eventually(
            lambda: self.stream.committed(topic, place.partition) > place.offset, 30, "the prior is read"
        )

    def wait_for_posteriors(self, count: int) -> int:
        """Until there are that many records; returns how many there are."""
        found: int = self.stream.posteriors.wait_for(
            lambda records: len(records) >= count and len(records), WAIT, f"{count} posteriors"
        )
        return found

    def check(self) -> dict[str, int]:
        """Waits for the last posterior, and counts."""
        due = sum(map(len, self.outcomes.values()))

        def complete(records: list[Any]) -> Any:
            found = posteriors_of(records)
            return sum(map(len, found.values())) >= due and found

        found = self.stream.posteriors.wait_for(complete, WAIT, f"{due} posteriors")
        check_order(found, self.outcomes, self.observations)
        for entity, taken in found.items():
            for posterior, outcome in zip(taken, self.outcomes[entity], strict=True):
                assert distance(posterior.mixture, outcome) < EXACT
        self.stream.dead_letters.poll()
        assert self.stream.dead_letters.records == []
        records = len(self.stream.posteriors.records)
        return {"observations": len(self.observations), "posteriors": records, "sent twice": records - due}

    def check_ends(self, kills: int = 0) -> None:
        """Waits until every entity has come to its end, whatever the order in which observations came."""
        last = messages_of(self.observations, [self.prior])

        def complete(records: list[Any]) -> Any:
            found = posteriors_of(records)
            return {entity: taken[-1].sequence for entity, taken in found.items()} == last and found

        found = self.stream.posteriors.wait_for(complete, WAIT, f"{sum(last.values())} messages are applied")
        check_ends(found, self.outcomes, EXACT, kills=kills)

    def wait_until_all_is_committed(self) -> None:
        topic = self.stream.names.topics.observations

        def all_committed() -> bool:
            offsets = [self.stream.committed(topic, partition) for partition in range(PARTITIONS)]
            return sum(offsets) == len(self.observations)

        eventually(all_committed, WAIT, "all observations are committed")


def killed_in_mid_stream(run: Run, worker: Worker, at: int, of: int) -> None:
    """Kills the worker after `at` posteriors, with some of the `of` observations sent so far still to come."""
    done = run.wait_for_posteriors(at)
    worker.kill()
    assert done < of, "the worker was too fast to be killed in mid-stream"


@pytest.fixture
def opened(kafka_broker: KafkaNode, names: Names, tmp_path: Path) -> Iterator[Stream]:
    with stream(kafka_broker, names, tmp_path) as opened:
        yield opened


@pytest.mark.chaos
@pytest.mark.kafka
def test_killed_twice_and_stopped_once_nothing_is_lost_and_nothing_applied_twice(
    opened: Stream, tmp_path: Path
) -> None:
    """With beliefs in memory, on an empty disk, on one that has what came before the kill, and in memory again."""
    in_memory: dict[str, Any] = {"batch": SMALL_BATCH}
    on_disk = in_memory | {"store": "rocksdb://", "data_directory": tmp_path / "beliefs"}
    run = Run(opened, entities=40, duration=50.0)
    total = len(run.observations)
    parts = [run.observations[start : start + total // 3 + 1] for start in range(0, total, total // 3 + 1)]
    worker = opened.worker(**in_memory).start()
    run.send_prior()

    run.send(parts[0])
    killed_in_mid_stream(run, worker, at=total // 9, of=len(parts[0]))

    run.send(parts[1])  # the next one starts into a backlog
    worker = opened.worker(**on_disk).start()
    killed_in_mid_stream(run, worker, at=total * 4 // 9, of=len(parts[0]) + len(parts[1]))

    worker = opened.worker(**on_disk).start()
    run.send(parts[2])
    done = run.wait_for_posteriors(total * 7 // 9)
    assert worker.terminate() == 0, worker.log()[-3000:]
    assert done < total, "the worker was too fast to be stopped in mid-stream"

    worker = opened.worker(**in_memory).start()
    print(run.check())
    run.wait_until_all_is_committed()
    # the one before it was stopped, not killed: it had committed all that it had done
    assert worker.metrics().get("beliefstream_observations_total/duplicate", 0.0) == 0.0


@pytest.mark.chaos
def test_a_worker_killed_before_its_first_commit_goes_on_where_it_was(
    broker: Broker, names: Names, tmp_path: Path
) -> None:
    with stream(broker, names, tmp_path) as opened:
        run = Run(opened, entities=10, duration=10.0)
        half = len(run.observations) // 2
        worker = opened.worker(batch=SMALL_BATCH).start()
        run.send_prior()
        run.send(run.observations[:half])
        run.wait_for_posteriors(half // 2)
        worker.kill()
        run.send(run.observations[half:])
        opened.worker().start()
        run.check()


@pytest.mark.chaos
def test_late_observations_go_to_their_place_across_a_kill(
    broker: Broker, names: Names, tmp_path: Path
) -> None:
    with stream(broker, names, tmp_path) as opened:
        run = Run(opened, entities=10, duration=10.0, delay=1.9)
        half = len(run.observations) // 2
        worker = opened.worker(batch=SMALL_BATCH).start()
        run.send_prior()
        run.send(run.observations[:half])
        run.wait_for_posteriors(half // 3)
        worker.kill()
        run.send(run.observations[half:])
        opened.worker(batch=SMALL_BATCH).start()
        run.check_ends(kills=1)
        opened.dead_letters.poll()
        assert opened.dead_letters.records == []
        assert max(posterior.revision for posterior in last_posteriors(opened)) > 0


@pytest.mark.kafka
def test_the_priors_of_a_backlog_are_read_before_its_observations(opened: Stream) -> None:
    """However much there is before them: megabytes that cannot be used, which take several fetches."""
    run = Run(opened, entities=4, duration=20.0, stated=20)
    key, topic = run.prior.entity.encode(), opened.names.topics.priors
    spoiled = [opened.send(topic, key, b"x" * 500_000) for _ in range(16)]
    opened.priors.send_message(run.prior).result(30)
    run.send(run.observations)
    opened.worker(maximum_message_bytes=400_000).start()
    run.check_ends()
    found = opened.dead_letters.wait_for(
        lambda records: len(records) >= len(spoiled) and dead_letters_of(records), WAIT, "they are refused"
    )
    assert found.keys() == set(spoiled)


def last_posteriors(opened: Stream) -> list[Posterior]:
    return [taken[-1] for taken in posteriors_of(opened.posteriors.records).values()]
