"""A worker sleeps past its session with a batch in its hands, and wakes up when another one has its partitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.brokers import KafkaNode
from tests.chaos.actors import AimedWorker
from tests.conftest import Names
from tests.streams.worker.test_restart import SMALL_BATCH, Run
from tests.streams.workers import stream

FENCED = 70  # exit status of a worker that finds another one in its place
NOTICE = 30.0  # seconds


@pytest.mark.chaos
@pytest.mark.kafka
@pytest.mark.parametrize("point", [pytest.param("computed", marks=pytest.mark.soak), "posteriors sent"])
def test_a_zombie_changes_no_belief(
    kafka_broker: KafkaNode, names: Names, tmp_path: Path, point: str
) -> None:
    """Between its posteriors and its beliefs, or before both."""
    with stream(kafka_broker, names, tmp_path) as opened:
        run = Run(opened, entities=20, duration=30.0)
        third = len(run.observations) // 3
        zombie = AimedWorker(kafka_broker, names, tmp_path, aim=f"{point}:8:stop", batch=SMALL_BATCH).start()
        try:
            run.send_prior()
            run.send(run.observations[:third])
            zombie.wait_until_suspended()
            before = len(opened.posteriors.records)
            assert before < third, "the worker was too fast to be suspended in mid-stream"

            owner = opened.worker(batch=SMALL_BATCH).start()
            run.send(run.observations[third : 2 * third])
            run.wait_for_posteriors(2 * third)
            zombie.wake()
            assert zombie.wait_until_ended(NOTICE) == FENCED
            assert "fenced" in zombie.log()
        finally:
            zombie.stop()

        # what the zombie had in its hands would now be found in the changelog, instead of the owner's beliefs
        owner.kill()
        opened.worker(batch=SMALL_BATCH).start()
        run.send(run.observations[2 * third :])
        print(run.check())
