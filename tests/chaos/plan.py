"""Which faults meet which stage, and how much of the workload; all of it follows from the seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beliefstream.streams.local.broker import free_port
from tests.brokers import EmbeddedNode, KafkaCluster, KafkaNode, Place
from tests.chaos import destruction, faults
from tests.chaos.proxy import Proxy
from tests.chaos.stage import Fault, Stage
from tests.chaos.worker import POINTS
from tests.chaos.workload import Workload

AIMED: dict[str, Fault] = {f"kill -9 ({point})": faults.aimed(point) for point in POINTS}
EVERYWHERE: dict[str, Fault] = {
    "kill -9 at random": faults.killed,
    "SIGTERM": faults.terminated,
    "zombie wakes up": faults.zombie,
    "worker added": faults.added,
    "worker removed": faults.removed,
    "broker restarted": faults.broker_restarted,
    "broker killed, restarted": faults.broker_killed,
    "changelog compacted": faults.compacted,
}
PROXIED: dict[str, Fault] = {
    "connection cut": faults.connection_cut,
    "answers lost, sends retried": faults.connection_flickers,
    "clock jumps a day": faults.clock_jumps,
}
CLUSTERED: dict[str, Fault] = {
    "leaders moved": faults.leader_moved,
    "one of three brokers lost": faults.broker_lost,
}
ON_DISK: dict[str, Fault] = {
    "local store's disk full": faults.disk_full,
    "kill -9 at random": faults.killed,
    "kill -9 (recovery)": faults.aimed("recovery"),
    "kill -9 (sending beliefs)": faults.aimed("sending beliefs"),
    "kill -9 (beliefs sent)": faults.aimed("beliefs sent"),
    "zombie wakes up": faults.zombie,
    "worker added": faults.added,
    "clock jumps a day": faults.clock_jumps,
}
# in this order: what the changelog has lost is in the source log only as long as that is whole; and a worker that
# recovers from what is left in the end
DESTROYED: dict[str, Fault] = {
    "changelog partition emptied": destruction.changelog_emptied,
    "changelog deleted, made again": destruction.changelog_made_again,
    "changelog made again under workers": destruction.changelog_made_again_under_workers,
    "source truncated beyond its offset": destruction.source_truncated,
    "source deleted, made again": destruction.source_made_again,
    "kill -9 at random": faults.killed,
}
SUBSET = (
    "kill -9 (sending posteriors)",
    "kill -9 (sending beliefs)",
    "kill -9 (recovery)",
    "connection cut",
    "zombie wakes up",
)
EMBEDDED = ("kill -9 at random", "kill -9 (posteriors sent)", "kill -9 (beliefs sent)", "SIGTERM")


@dataclass(frozen=True)
class Part:
    """One stage: its share of the observations, what it runs on, and its faults in order.

    Attributes:
        brokers: nodes of Apache Kafka; none for the embedded broker.
        segments: between which definitions change; 0 for as many as there are in the run, by its share.
    """

    name: str
    share: float
    brokers: int
    faults: list[tuple[str, Fault]]
    settings: dict[str, Any]
    segments: int = 0


def full(seed: int, rounds: int = 1) -> list[Part]:
    """Every fault: those on one broker `rounds` times, in an order of the seed."""
    return [
        Part("one broker", 0.71, 1, _order(seed, EVERYWHERE | PROXIED | AIMED, rounds), {}),
        Part("three brokers", 0.15, 3, _order(seed, EVERYWHERE | CLUSTERED), {}),
        Part("rocksdb", 0.1, 1, _order(seed, ON_DISK), {"store": "rocksdb://"}),
        # definitions stay: what is computed again is computed with those that are in force then
        Part("destroyed logs", 0.04, 1, list(DESTROYED.items()), {}, segments=1),
    ]


def workloads(
    seed: int, observations: int, entities: int, segments: int, rounds: int = 1
) -> list[tuple[Part, Workload]]:
    """Every part with its share of the observations, of which there are at least so many in all."""
    return [
        (
            part,
            Workload(
                seed + number,
                math.ceil(observations * part.share),
                entities,
                part.segments or max(2, round(segments * part.share)),
            ),
        )
        for number, part in enumerate(full(seed, rounds))
    ]


def subset(seed: int) -> list[Part]:
    """Some, for every change of the code."""
    known = EVERYWHERE | PROXIED | AIMED
    return [
        Part("one broker", 1.0, 1, _order(seed, {name: known[name] for name in SUBSET}), {}),
        Part("embedded broker", 1.0, 0, _order(seed, {name: known[name] for name in EMBEDDED}), {}),
    ]


def _order(seed: int, chosen: dict[str, Fault], rounds: int = 1) -> list[tuple[str, Fault]]:
    generator, order = random.Random(seed), []
    for _ in range(rounds):
        turn = list(chosen.items())
        generator.shuffle(turn)
        order.extend(turn)
    return order


@dataclass(frozen=True)
class Front:
    """What workers take for the broker."""

    bootstrap_servers: str
    is_embedded: bool = False


@contextmanager
def stage(part: Part, workload: Workload, directory: Path) -> Iterator[Stage]:
    """The part's stage, with its brokers."""
    directory.mkdir(parents=True, exist_ok=True)
    if not part.brokers:
        with EmbeddedNode() as embedded:
            yield Stage(
                workload, embedded, embedded, [], part.faults, directory, None, settings=part.settings
            )
        return
    if part.brokers > 1:
        with KafkaCluster(part.brokers) as cluster:
            yield Stage(
                workload,
                cluster,
                cluster,
                cluster.nodes,
                part.faults,
                directory,
                None,
                replication=part.brokers,
                settings=part.settings,
            )
        return
    place = Place(front_port=free_port(), back_port=free_port())
    with KafkaNode(place) as node, Proxy(place.front_port, place.back_port) as proxy:
        front = Front(node.front_servers)
        yield Stage(
            workload, node, front, [node], part.faults, directory, proxy, workers=2, settings=part.settings
        )
