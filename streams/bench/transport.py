"""Measures a worker that computes nothing: the speed that Faust and Kafka allow, beside a plain echo.

For each observation it sends a posterior, and for each entity of a batch a belief, as large as those of a worker. It
keeps the leases and the store of a worker, and neither reads observations nor updates beliefs. So the difference to a
worker is what reading, updating and encoding cost.

    python streams/bench/transport.py [ENTITIES [REPORTS [HOST:PORT]]]
"""

from __future__ import annotations

import inspect
import os
import runpy
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from subprocess import Popen
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP, EventT

from beliefstream.streams.bench import site as sites
from beliefstream.streams.bench.stream import measure_stream
from beliefstream.streams.bench.workload import in_order
from beliefstream.streams.kafka.producing import Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.stores import NOT_KNOWN
from beliefstream.streams.worker.fusion import Fusion

ENTITIES, REPORTS = 1000, 60
# bytes of a posterior and of a belief with its past, in the mean of a worker with these entities, and of headers
POSTERIOR, BELIEF, HEADERS = os.urandom(1560), os.urandom(1900), [("ce_id", os.urandom(140))]


class Transport(Fusion):
    """Sends as much as `Fusion`, and computes nothing."""

    def __init__(self, names: TopicNames, *others: Any, **options: Any) -> None:
        super().__init__(names, *others, **options)
        given = inspect.signature(Fusion).bind(names, *others, **options).arguments
        self._names, self._reader = names, given["reader"]
        self._store, self._fencing = given["store"], given["fencing"]

    async def process(self, events: Sequence[EventT[Any]], ends: Mapping[TP, int] | None = None) -> None:
        await self._reader.complete.wait()
        await self._fencing.renew()
        leases, names = self._fencing.leases, self._names
        messages = [event.message for event in events]
        posteriors = [
            Record(names.posteriors, message.partition, message.key, POSTERIOR, HEADERS)
            for message in messages
        ]
        await self._send(posteriors, leases, "sending posteriors")
        changes: dict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        for message in messages:
            changes[message.partition][message.key or b""] = BELIEF
        topic = names.beliefs_changelog
        beliefs = [
            Record(topic, partition, key, BELIEF) for partition, keys in changes.items() for key in keys
        ]
        offsets = await self._send(beliefs, leases, "sending beliefs")
        for partition, changed in changes.items():
            last = offsets.get(TopicPartition(topic, partition), NOT_KNOWN)
            self._store.write_own(partition, changed, last, 0)
        metrics.OBSERVATIONS.labels("accepted").inc(len(events))


def work() -> None:
    """Run a worker that computes nothing; its settings are those of the environment."""
    from beliefstream.streams.worker import app

    sys.argv = ["beliefstream", "worker"]
    app.Fusion = Transport  # type: ignore[attr-defined]
    runpy.run_module("beliefstream.streams.cli", run_name="__main__")


@contextmanager
def worker(settings: Settings) -> Iterator[Popen[bytes]]:
    """As `site.worker`."""
    command = [sys.executable, __file__, "work"]
    with sites.process(command, settings.environment(), sites.log_of(settings)) as child:
        yield child


def main(entities: int = ENTITIES, reports: int = REPORTS, brokers: str = "") -> None:
    from beliefstream.streams.local.broker import EmbeddedBroker

    with EmbeddedBroker() as broker:
        site = sites.Site(*(("kafka", brokers) if brokers else ("embedded", broker.bootstrap_servers)))
        found = measure_stream(site, in_order(entities, reports), worker)
        print(f"echo {found.echo.per_second:,.0f}, a worker that computes nothing {found.own:,.0f} a second")
        print(
            f"{found.of_the_echo:.1f} of the echo, {1e6 * (found.worker.cpu or 0):.0f} µs of the processor each"
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        work()
    else:
        numbers = [int(number) for number in sys.argv[1:3]]
        main(*numbers, *sys.argv[3:4])  # type: ignore[arg-type]
