"""After a power cut a log can lack its end, when the offsets that were committed in it do not."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from beliefstream.streams.state.lineage import ENDS_EARLY
from tests.brokers import KafkaNode
from tests.chaos.test_destroyed import WAIT, Half
from tests.conftest import Names, eventually
from tests.streams.workers import Stream, Worker, stream


@pytest.fixture
def node() -> Iterator[KafkaNode]:
    with KafkaNode() as node:
        yield node


@pytest.fixture
def opened(node: KafkaNode, names: Names, tmp_path: Path) -> Iterator[Stream]:
    with stream(node, names, tmp_path) as opened:
        yield opened


@contextmanager
def stopped(node: KafkaNode, topic: str) -> Iterator[list[Path]]:
    """The directories of the topic's partitions, while the node does not run."""
    node.stop()
    yield list((node.directory / "data").glob(f"{topic}-*"))
    node.start()


class LostEnd:
    """A stream of which the second quarter has been applied, after which one topic's logs are as they were before."""

    def __init__(
        self, node: KafkaNode, opened: Stream, topic: str, aside: Path, running: bool = False
    ) -> None:
        self.half = Half(opened, share=0.25)
        self.half.worker.kill()
        with stopped(node, topic) as directories:
            for directory in directories:
                shutil.copytree(directory, aside / directory.name)
        self.worker = self.with_second_quarter(opened)
        if not running:
            self.worker.kill()
        with stopped(node, topic) as directories:
            for directory in directories:
                shutil.rmtree(directory)
                shutil.copytree(aside / directory.name, directory)
        # to a broker that has lost messages the next ones of the same producer are out of order
        opened.observations = opened.new_device()

    def with_second_quarter(self, opened: Stream) -> Worker:
        half, worker = self.half, opened.worker(**self.half.settings).start()
        before, half.half = half.half, len(half.run.observations) // 2
        half.run.send(half.run.observations[before : half.half])
        half.run.wait_for_posteriors(half.half)
        eventually(lambda: half.committed() == half.half, WAIT, "the second quarter is committed")
        return worker


@pytest.mark.chaos
@pytest.mark.kafka
def test_where_a_source_has_lost_its_end_beliefs_go_on_and_no_new_message_is_skipped(
    node: KafkaNode, opened: Stream, tmp_path: Path
) -> None:
    lost = LostEnd(node, opened, opened.names.topics.observations, tmp_path / "aside")
    said = lost.half.go_on()
    assert any(line["event"] == ENDS_EARLY for line in said)


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_a_worker_stops_where_a_log_goes_back_and_the_next_goes_on(
    node: KafkaNode, opened: Stream, tmp_path: Path
) -> None:
    lost = LostEnd(node, opened, opened.names.topics.observations, tmp_path / "aside", running=True)
    assert lost.worker.wait_until_ended(WAIT) == 70
    lost.half.go_on()


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_where_the_changelog_has_lost_its_end_that_is_computed_again(
    node: KafkaNode, opened: Stream, tmp_path: Path
) -> None:
    lost = LostEnd(node, opened, opened.names.topics.beliefs_changelog, tmp_path / "aside")
    lost.half.go_on()
