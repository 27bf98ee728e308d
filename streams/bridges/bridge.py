"""What every bridge is: a source gives messages, a mapping reads them, and a writer takes them to Kafka.

A source is what only one bridge has: a server of HTTP, a client of MQTT. It hands what the mapping has made of its
messages to `Bridge.forward`, and learns which of them Kafka has. `serving.serve` runs it, beside the pages that say how
it does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from beliefstream.schemas import DeadLetter, Observation, Prior, Unusable
from beliefstream.streams.bridges.acknowledged import Message, Outcome, Writer
from beliefstream.streams.bridges.metrics import BridgeMetrics
from beliefstream.streams.kafka.reachability import CHECK_SECONDS, Reachability
from beliefstream.streams.settings import Settings

TOPICS: dict[type[Message], str] = {Observation: "observations", Prior: "priors"}
"""Topics as metrics call them, by what is written to them."""


class Bridge:
    """The way to Kafka of one source.

    Args:
        name: of the bridge, in metrics and in the CloudEvents header `ce_source`.
        kinds: what it writes: observations, priors, dead letters.
        seconds: how long it tries to write a message.

    Attributes:
        metrics: of this bridge.
        counts: how many messages had each outcome: accepted, rejected, failed.
    """

    def __init__(self, settings: Settings, name: str, kinds: Sequence[type[Message]], seconds: float) -> None:
        self.settings = settings
        self.writer = Writer(settings, f"/beliefstream/{name}", kinds, seconds)
        self._reachability = Reachability(self.writer.topics, name=f"the {name} bridge")
        self.metrics = BridgeMetrics(name, [TOPICS[kind] for kind in kinds if kind in TOPICS])
        self.counts: Counter[str] = Counter()

    @property
    def fault(self) -> str | None:
        """Why nothing can be written, if that has lasted for some seconds."""
        return self._reachability.fault

    async def forward(
        self, found: Sequence[Message | Unusable], topic: Literal["observations", "priors"]
    ) -> list[Outcome]:
        """Send what a mapping has found, in order; returns what became of each, once Kafka has it or it has failed.

        An `Unusable` is its own outcome: the source tells its sender. A dead letter counts as rejected.
        """
        self.metrics.received.inc(len(found))
        began = time.perf_counter()
        good = [each for each in found if not isinstance(each, Unusable)]
        written = iter(await self.writer.write(good) if good else ())
        outcomes: list[Outcome] = [each if isinstance(each, Unusable) else next(written) for each in found]
        if good:
            self.metrics.acknowledge_seconds.observe(time.perf_counter() - began)
        for outcome, number in Counter(map(_outcome, found, outcomes)).items():
            self.metrics.count(topic, outcome, number)
            self.counts[outcome] += number
        return outcomes

    def show(self) -> None:
        """Set the gauges, before they are read."""
        self.metrics.broker_reachable.set(self.fault is None)
        self.metrics.in_flight.set(self.writer.in_flight)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect to Kafka while the context lasts.

        Raises:
            BrokerUnavailable: no broker answers.
        """
        await self.writer.start()
        works = self._reachability.watch(lambda: self.writer.client), self._renew_after_faults()
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await self.writer.close()

    async def _renew_after_faults(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if self.writer.failing:
                await self.writer.renew()


def _outcome(found: Message | Unusable, outcome: Outcome) -> str:
    if isinstance(outcome, Unusable):
        return "rejected"
    if isinstance(outcome, Exception):
        return "failed"
    return "rejected" if type(found) is DeadLetter else "accepted"  # isinstance of a message is slow
