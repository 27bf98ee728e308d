"""Faults that delete what the service has kept: its changelog, or the log of observations that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import PolicyViolationError

from beliefstream.streams.kafka.faust.consumer import TOPIC_CHANGED
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.lineage import CREATED_AGAIN, READ_AGAIN
from tests.chaos.faults import LONGEST, until
from tests.chaos.stage import Stage
from tests.conftest import eventually
from tests.streams.workers import make_again

DOOMED = 400  # observations
LOST = "messages are lost"  # a worker says


def changelog_emptied(stage: Stage) -> Iterator[None]:
    """One partition, as retention does it where the topic was set up wrongly; the beliefs are to be computed again."""
    stage.allowed.add(READ_AGAIN)
    chosen, partition = stage.names.topics, stage.random.randrange(stage.partitions)
    delete_records(stage.broker.bootstrap_servers, chosen, chosen.beliefs_changelog, [partition])
    kill_all(stage)
    yield


def changelog_made_again(stage: Stage) -> Iterator[None]:
    stage.allowed.add(READ_AGAIN)
    kill_all(stage)
    _make_again(stage, stage.names.topics.beliefs_changelog)
    yield


def changelog_made_again_under_workers(stage: Stage) -> Iterator[None]:
    """Which stop as they notice; the new one holds what they had in hand, and few of the beliefs."""
    stage.allowed |= {READ_AGAIN, TOPIC_CHANGED}
    _make_again(stage, stage.names.topics.beliefs_changelog)
    before = dict(stage.progress.grown)
    yield from until(lambda: stage.grown(before), LONGEST, "all partitions have posteriors again")
    kill_all(stage)
    yield


def source_truncated(stage: Stage) -> Iterator[None]:
    """Beyond the committed offset. Nobody can compute what is gone, but every message of it is counted."""
    stage.allowed.add(LOST)
    yield from stage.come_to_rest(LONGEST)
    kill_all(stage)
    stage.send_in_vain(DOOMED)
    chosen = stage.names.topics
    delete_records(stage.broker.bootstrap_servers, chosen, chosen.observations, range(stage.partitions))
    yield from until(lambda: said_to_be_lost(stage) >= DOOMED, LONGEST, "what is lost is said")
    if said_to_be_lost(stage) != DOOMED:
        stage.progress.faults.append(f"{said_to_be_lost(stage)} messages are said to be lost, not {DOOMED}")
    stage.holding = False


def source_made_again(stage: Stage) -> Iterator[None]:
    """Under workers that run; its offsets count anew."""
    stage.allowed |= {CREATED_AGAIN, TOPIC_CHANGED}
    yield from stage.come_to_rest(LONGEST)
    _make_again(stage, stage.names.topics.observations)
    stage.holding = False
    yield


def kill_all(stage: Stage) -> None:
    for worker in stage.crew:
        worker.kill()


def _make_again(stage: Stage, topic: str) -> None:
    chosen, servers = stage.names.topics, stage.broker.bootstrap_servers
    make_again(servers, chosen, topic, stage.partitions, stage.replication)


def delete_records(servers: str, names: TopicNames, topic: str, partitions: Iterable[int]) -> None:
    """All there are now; Kafka does that to a compacted topic only while it is set up wrongly."""
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        if topic in names.compacted:
            _set_policy(admin, topic, "delete")
        every = {TopicPartition(topic, partition): -1 for partition in partitions}
        eventually(lambda: _deleted(admin, every), LONGEST, "the broker deletes records")
        if topic in names.compacted:
            _set_policy(admin, topic, "compact")
    finally:
        admin.close()


def _deleted(admin: KafkaAdminClient, ends: dict[TopicPartition, int]) -> bool:
    """Not by a broker that has not heard of the policy yet which the controller has agreed to."""
    try:
        admin.delete_records(ends)
    except PolicyViolationError:
        return False
    return True


def _set_policy(admin: KafkaAdminClient, topic: str, policy: str) -> None:
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": policy})])


def said_to_be_lost(stage: Stage) -> int:
    """Messages, by what all workers have logged; what two of them say of the same offsets counts once."""
    said = [line for worker in stage.everyone for line in worker.said() if LOST in str(line["event"])]
    found = {(line["partition"], line["first"], line["lost"]) for line in said}
    return sum(lost for _, _, lost in found)
