"""Faults that delete what the service has kept: its changelog, or the log of observations that it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator

from kafka import KafkaAdminClient, TopicPartition

from streams import topics
from tests.chaos.faults import LONGEST, configure, until
from tests.chaos.stage import Stage
from tests.conftest import eventually

GONE_SECONDS = 60.0
DOOMED = 400  # observations


def changelog_emptied(stage: Stage) -> Iterator[None]:
    """One partition, as retention does it where the topic was set up wrongly; the beliefs are to be computed again."""
    topic, partition = stage.names.topics.beliefs_changelog, stage.random.randrange(stage.partitions)
    configure(stage, topic, {"cleanup.policy": "delete"})
    delete_records(stage, topic, [partition])
    configure(stage, topic, {"cleanup.policy": "compact"})
    kill_all(stage)
    yield


def changelog_made_again(stage: Stage) -> Iterator[None]:
    kill_all(stage)
    make_again(stage, stage.names.topics.beliefs_changelog)
    yield


def source_truncated(stage: Stage) -> Iterator[None]:
    """Beyond the committed offset. Nobody can compute what is gone, but every message of it is counted."""
    yield from stage.come_to_rest(LONGEST)
    kill_all(stage)
    stage.send_in_vain(DOOMED)
    delete_records(stage, stage.names.topics.observations, range(stage.partitions))
    yield from until(lambda: said_to_be_lost(stage) >= DOOMED, LONGEST, "what is lost is said")
    if said_to_be_lost(stage) != DOOMED:
        stage.progress.faults.append(f"{said_to_be_lost(stage)} messages are said to be lost, not {DOOMED}")
    stage.holding = False


def source_made_again(stage: Stage) -> Iterator[None]:
    """Under workers that run; its offsets count anew."""
    yield from stage.come_to_rest(LONGEST)
    make_again(stage, stage.names.topics.observations)
    stage.holding = False
    yield


def kill_all(stage: Stage) -> None:
    for worker in stage.crew:
        worker.kill()


def delete_records(stage: Stage, topic: str, partitions: range | list[int]) -> None:
    """All there are now."""
    admin = KafkaAdminClient(bootstrap_servers=stage.broker.bootstrap_servers.split(","))
    try:
        admin.delete_records({TopicPartition(topic, partition): -1 for partition in partitions})
    finally:
        admin.close()


def make_again(stage: Stage, topic: str) -> None:
    """Deletes the topic, and creates it when it has gone."""
    servers = stage.broker.bootstrap_servers
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        admin.delete_topics([topic])
        eventually(lambda: topic not in admin.list_topics(), GONE_SECONDS, "the topic has gone")
    finally:
        admin.close()
    topics.create(servers, stage.names.topics, partitions=stage.partitions, replication=stage.replication)


def said_to_be_lost(stage: Stage) -> int:
    """Messages, by what all workers have logged; what two of them say of the same offsets counts once."""
    found: set[tuple[int, int, int]] = set()
    for log in stage.directory.glob("worker-*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("{") and "messages are lost" in line:
                said = json.loads(line)
                found.add((said["partition"], said["first"], said["lost"]))
    return sum(lost for _, _, lost in found)
