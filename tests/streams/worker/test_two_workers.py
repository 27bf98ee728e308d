"""Two workers share the partitions; when one is killed the other takes over, and nothing is lost or applied twice.

Each keeps its beliefs on its own disk, from where it goes on with partitions that come back to it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import KafkaNode
from tests.conftest import Names, eventually
from tests.streams.worker.test_restart import Run
from tests.streams.workers import Stream, Worker, stream

TAKE_OVER = 60.0  # seconds; the session (6 s), the recovery and a margin
SMALL_BATCH = 32


def owned(worker: Worker, topic: str) -> set[str]:
    return {place for place in worker.assigned if place.startswith(topic)}


@pytest.mark.chaos
@pytest.mark.kafka
def test_two_workers_share_the_partitions_and_one_takes_over(
    kafka_broker: KafkaNode, names: Names, tmp_path: Path
) -> None:
    def started(opened: Stream, name: str) -> Worker:
        return opened.worker(batch=SMALL_BATCH, store="rocksdb://", data_directory=tmp_path / name).launch()

    with stream(kafka_broker, names, tmp_path) as opened:
        run = Run(opened, entities=40, duration=40.0)
        topic = names.topics.observations
        every = {f"{topic}-{partition}" for partition in range(4)}
        workers = [started(opened, name) for name in ("one", "two")]
        first, second = (worker.wait_until_ready() for worker in workers)

        def shared() -> bool:
            mine, theirs = owned(first, topic), owned(second, topic)
            return bool(mine and theirs) and not mine & theirs and mine | theirs == every

        eventually(shared, TAKE_OVER, "both have partitions")
        run.send_prior()
        third = len(run.observations) // 3
        run.send(run.observations[:third])
        run.wait_for_posteriors(third)
        accepted = "beliefstream_observations_total/accepted"
        counted = [worker.metrics().get(accepted, 0.0) for worker in (first, second)]
        assert all(count > 0 for count in counted)

        run.send(run.observations[third : 2 * third])
        done = run.wait_for_posteriors(third * 4 // 3)
        second.kill()
        assert done < 2 * third, "the worker was too fast to be killed in mid-stream"
        eventually(lambda: owned(first, topic) == every, TAKE_OVER, "the first has taken over")
        run.wait_for_posteriors(2 * third)

        # and back: the second one comes again, with what it had kept on its disk, and what the first one has written
        # since only in the changelog; then the first one goes
        joined = started(opened, "two").wait_until_ready()
        eventually(lambda: owned(joined, topic), TAKE_OVER, "the second one has partitions again")
        run.send(run.observations[2 * third :])
        run.wait_for_posteriors(2 * third + third // 3)
        first.kill()
        print(run.check())
        run.wait_until_all_is_committed()
        assert owned(joined, topic) == every
