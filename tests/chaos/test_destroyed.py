"""What is deleted under the service: it computes again what it can, and says what it cannot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Posterior, parse
from tests.brokers import KafkaNode
from tests.chaos import destruction
from tests.chaos.actors import AimedWorker
from tests.conftest import Names, eventually
from tests.streams.worker.test_restart import SMALL_BATCH, Run
from tests.streams.workers import PARTITIONS, Stream, add_partitions, make_again, stream

WAIT = 60.0  # seconds


@pytest.fixture
def opened(kafka_broker: KafkaNode, names: Names, tmp_path: Path) -> Iterator[Stream]:
    with stream(kafka_broker, names, tmp_path) as opened:
        yield opened


class Half:
    """A stream of which the first half, or another share, has been applied."""

    def __init__(self, opened: Stream, share: float = 0.5, **settings: Any) -> None:
        self.settings = {"batch": SMALL_BATCH} | settings
        self.stream, self.topics = opened, opened.names.topics
        self.run = Run(opened, entities=8, duration=10.0)
        self.half = int(share * len(self.run.observations))
        self.worker = opened.worker(**self.settings).start()
        self.run.send_prior()
        self.run.send(self.run.observations[: self.half])
        self.run.wait_for_posteriors(self.half)
        eventually(lambda: self.committed() == self.half, WAIT, "the first half is committed")

    def aimed(self, aim: str, directory: Path) -> AimedWorker:
        """A worker that is in its group still when it wakes."""
        settings = self.settings | {"session_timeout": 30.0}
        return AimedWorker(self.stream.broker, self.stream.names, directory, aim=aim, **settings).start()

    def committed(self) -> int:
        return sum(self.stream.committed(self.topics.observations, n) for n in range(PARTITIONS))

    def delete_records(self, topic: str) -> None:
        servers = self.stream.broker.bootstrap_servers
        destruction.delete_records(servers, self.topics, topic, range(PARTITIONS))

    def make_again(self, topic: str) -> None:
        make_again(self.stream.broker.bootstrap_servers, self.topics, topic, PARTITIONS)

    def go_on(self) -> list[dict[str, object]]:
        """With another worker and the second half; returns what that worker has logged as errors."""
        worker = self.stream.worker(**self.settings).start()
        self.run.send(self.run.observations[self.half :])
        self.run.check()
        return errors(worker.log())


def errors(log: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["level"] == "error"]


@pytest.mark.chaos
@pytest.mark.kafka
@pytest.mark.parametrize("running", [pytest.param(True, marks=pytest.mark.soak), False])
def test_an_emptied_changelog_is_computed_again(opened: Stream, running: bool) -> None:
    half = Half(opened)
    if not running:
        half.worker.kill()
    half.delete_records(half.topics.beliefs_changelog)
    if running:
        half.worker.kill()
    said = half.go_on()
    assert any("lost beliefs" in str(line["event"]) for line in said)
    assert not any("is lost" in str(line["event"]) for line in said)


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_a_changelog_made_again_is_computed_again(opened: Stream) -> None:
    half = Half(opened)
    half.worker.kill()
    half.make_again(half.topics.beliefs_changelog)
    half.go_on()


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_a_changelog_made_again_under_a_worker_that_goes_on_is_computed_again(
    opened: Stream, tmp_path: Path
) -> None:
    """What it had in hand is in the new one, and the beliefs that it had written before are not."""
    half = Half(opened)
    half.worker.kill()
    aimed = half.aimed("posteriors sent:1:stop", tmp_path)
    half.run.send([half.run.observations[half.half]])
    half.half += 1
    aimed.wait_until_suspended()
    half.make_again(half.topics.beliefs_changelog)
    aimed.wake()
    half.run.wait_for_posteriors(half.half)
    half.run.send([half.run.observations[half.half]])
    half.half += 1
    assert aimed.wait_until_ended(WAIT) == 70
    half.go_on()


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_changelog_and_source_made_again_under_a_worker_that_goes_on(opened: Stream, tmp_path: Path) -> None:
    """What it had in hand is in the new changelog with offsets of the old source; those say nothing of the new one."""
    half = Half(opened)
    half.worker.kill()
    aimed = half.aimed("posteriors sent:1:stop", tmp_path)
    half.run.send([half.run.observations[half.half]])
    aimed.wait_until_suspended()
    half.make_again(half.topics.beliefs_changelog)
    half.make_again(half.topics.observations)
    aimed.wake()
    half.run.wait_for_posteriors(half.half + 1)
    rest = half.run.observations[half.half + 1 :]
    half.run.send(rest)
    aimed.wait_until_ended(WAIT)
    opened.worker(**half.settings).start()
    due = Counter(seen.id for seen in rest)

    def all_applied(records: list[Any]) -> bool:
        named = Counter(name for record in records for name in parse(Posterior, record.value).applied)
        return {name: count for name, count in named.items() if name in due} == due

    opened.posteriors.wait_for(all_applied, WAIT, "each message of the new source is applied once")


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_a_local_store_of_another_changelog_is_discarded(opened: Stream, tmp_path: Path) -> None:
    half = Half(opened, store="rocksdb://", data_directory=tmp_path / "data")
    half.worker.kill()
    half.make_again(half.topics.beliefs_changelog)
    half.go_on()  # the copy is of another topic by its id, and is made anew


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_a_source_made_again_goes_on_with_the_beliefs_there_are(opened: Stream) -> None:
    half = Half(opened)
    half.make_again(half.topics.observations)
    half.worker.stop()
    said = half.go_on()
    assert any("created again" in str(line["event"]) for line in said)


@pytest.mark.chaos
@pytest.mark.kafka
def test_a_source_made_again_and_filled_before_a_worker_looks_is_noticed(opened: Stream) -> None:
    """Beyond the offsets that it had come to: nothing in what it reads next says that it is another topic."""
    half = Half(opened, share=0.2, session_timeout=15.0)  # it is in its group still when it wakes
    half.worker.suspend()
    half.make_again(half.topics.observations)
    half.run.send(half.run.observations[half.half :])
    half.worker.wake()
    assert half.worker.wait_until_ended(WAIT) == 70
    assert f"{half.topics.observations!r} was deleted and created again" in half.worker.log()
    opened.worker(**half.settings).start()
    half.run.check()


@pytest.mark.chaos
@pytest.mark.kafka
def test_partitions_that_are_added_stop_a_worker_before_an_entity_is_told_from_its_belief(
    opened: Stream,
) -> None:
    half, servers = Half(opened), opened.broker.bootstrap_servers
    topic = half.topics.observations
    add_partitions(servers, topic, PARTITIONS + 2)
    device = opened.new_device()  # which sends to all of them
    for seen in half.run.observations[half.half :]:
        device.send_message(seen)
    device.flush()
    assert half.worker.wait_until_ended(WAIT) == 70
    assert f"{topic!r} has {PARTITIONS + 2} partitions now, not {PARTITIONS}" in half.worker.log()
    another = opened.worker(**half.settings).launch()
    assert another.wait_until_ended(WAIT) != 0
    assert f"{topic!r} has {PARTITIONS + 2} partitions instead of {PARTITIONS}" in another.log()
    opened.posteriors.poll()
    assert len(opened.posteriors.records) == half.half
    half.make_again(topic)
    half.go_on()


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_a_worker_refuses_beliefs_that_were_computed_from_another_number_of_partitions(
    opened: Stream,
) -> None:
    half = Half(opened)
    half.worker.kill()
    for topic in {*half.topics.partitioned_alike, half.topics.dead_letters}:
        add_partitions(opened.broker.bootstrap_servers, topic, PARTITIONS + 2)
    worker = opened.worker(**(half.settings | {"partitions": PARTITIONS + 2})).launch()
    assert worker.wait_until_ended(WAIT) != 0
    (said,) = {line["detail"] for line in errors(worker.log()) if "detail" in line}
    assert f"were computed from {PARTITIONS} partitions of {half.topics.observations!r}" in str(said)


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_what_a_truncated_source_has_lost_is_said_and_counted(opened: Stream) -> None:
    half = Half(opened)
    half.worker.kill()
    quarter = half.half + half.half // 2
    half.run.send(half.run.observations[half.half : quarter])
    half.delete_records(half.topics.observations)
    worker = opened.worker(batch=SMALL_BATCH).start()
    half.run.send(half.run.observations[quarter:])
    kept = half.half + len(half.run.observations) - quarter
    half.run.wait_for_posteriors(kept)
    name = f"beliefstream_lost_offsets_total/{half.topics.observations}"
    eventually(lambda: worker.metrics().get(name) == quarter - half.half, WAIT, "what is lost is counted")
    lost = [line["lost"] for line in errors(worker.log()) if "messages are lost" in str(line["event"])]
    assert sum(map(int, map(str, lost))) == quarter - half.half


@pytest.mark.soak
@pytest.mark.chaos
@pytest.mark.kafka
def test_what_no_log_holds_is_said_to_be_lost(opened: Stream) -> None:
    half = Half(opened)
    half.worker.kill()
    half.delete_records(half.topics.beliefs_changelog)
    half.delete_records(half.topics.observations)
    worker = opened.worker(batch=SMALL_BATCH).start()
    said = [line for line in errors(worker.log()) if "is lost" in str(line["event"])]
    assert {line["partition"] for line in said} == set(range(PARTITIONS))
    half.run.send(half.run.observations[half.half :])
    half.run.wait_for_posteriors(len(half.run.observations))  # it goes on, from the models' priors
