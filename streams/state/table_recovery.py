"""Restores beliefs from their changelog in large batches, and stops at records it cannot read."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import structlog
from faust.types import TP

from beliefstream.streams.kafka.faust.recovery import BulkRecovery, SafeTableManager
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.stores import NOT_RESTORED, BeliefStore, or_stop
from beliefstream.streams.state.table import BeliefTable

log = structlog.get_logger()


class BeliefRecovery(BulkRecovery):
    """Restores tables of beliefs (`streams.state.stores`)."""

    _began = 0.0

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Start the clock; Faust calls this when partitions move, and asks the stores how far they are."""
        self._began = time.monotonic()
        with or_stop(NOT_RESTORED):
            await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Complete the stores; Faust calls this when the tables are restored."""
        for tp, store in self.stores(self.active_tps):
            if store.unreadable:
                refuse(store.unreadable)
            with or_stop(NOT_RESTORED):
                store.complete(tp, self.active_highwaters[tp])
        seconds = time.monotonic() - self._began
        metrics.RECOVERY_SECONDS.set(seconds)
        numbers = sorted(tp.partition for tp in self.active_tps)
        beliefs = {tp.partition: store.size(tp.partition) for tp, store in self.stores(self.active_tps)}
        log.info(
            "beliefs are restored",
            partitions=numbers,
            beliefs=sum(beliefs.values()),
            seconds=round(seconds, 2),
        )
        await super().on_recovery_completed(generation_id)

    def stores(self, tps: Iterable[TP]) -> Iterator[tuple[TP, BeliefStore]]:
        """Yield those of these partitions that are of tables of beliefs, with their stores."""
        for tp in tps:
            table = self.tp_to_table.get(tp)
            if isinstance(table, BeliefTable):
                yield tp, table.store


class BeliefTableManager(SafeTableManager):
    """Table manager for `faust.App(..., TableManager=BeliefTableManager, Table=BeliefTable)`."""

    recovery_class = BeliefRecovery

    def guard(
        self,
        take: Callable[[Collection[int]], Awaitable[None]],
        examine: Callable[[Any, Collection[int]], Awaitable[bool]],
    ) -> None:
        """Have partitions taken over before their changelog is read, and compared with their source afterwards."""

        async def taken(partitions: Collection[int]) -> None:
            with or_stop("partitions cannot be taken over, the worker stops"):
                await take(partitions)

        async def examined(consumer: Any, partitions: Collection[int]) -> bool:
            with or_stop("beliefs cannot be compared with their source, the worker stops"):
                return await examine(consumer, partitions)

        self.fence, self.examine = taken, examined


def refuse(unreadable: Mapping[Any, str]) -> None:
    """End the worker like a failed command: one line on stderr, exit status 1.

    It exits at once. Faust would commit and wait first, and may wait for ever.
    """
    first, *others = unreadable.values()
    more = f" (There are {len(others)} more like it.)" if others else ""
    print(f"beliefstream: {first}{more}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
