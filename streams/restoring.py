"""Recovery of beliefs from their changelog: many records at a time, and none that cannot be read.

Faust takes each record on its own: a task and a timer to wait for it, and a count of what is left in all partitions
after it. It also takes an error in doing so for a reason to go on, with a table that is not complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from faust.tables.recovery import Recovery
from faust.types import TP, EventT
from faust.types.tables import CollectionT
from faust.types.transports import ConsumerT
from mode import Service

from streams.recovery import SafeRecovery, SafeTableManager
from streams.stores import BeliefStore, BeliefTable

log = structlog.get_logger()
MOST_TOGETHER = 4096  # records
LOOK_SECONDS = 5.0  # without a record, after which it is looked whether one is still to come


class BeliefRecovery(SafeRecovery):
    """Restores `streams.stores.BeliefTable`s."""

    async def _build_offsets(
        self, consumer: ConsumerT, tps: set[TP], destination: Counter[TP], title: str
    ) -> None:
        # Faust calls this when it knows where the changelogs end, before it seeks to where it has come to.
        firsts = await consumer.earliest_offsets(*tps)
        for tp, store in self._stores(tps):
            store.check_against(tp, firsts.get(tp) or 0, self.active_highwaters[tp])
            if isinstance(destination.get(tp), int) and store.on_disk:
                destination[tp] = store.persisted_offset(tp)  # type: ignore[assignment]  # none is its beginning
        await super()._build_offsets(consumer, tps, destination, title)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Faust calls this when the tables are restored."""
        for tp, store in self._stores(self.active_tps):
            if store.unreadable:
                refuse(store.unreadable)
            store.complete(tp, self.active_highwaters[tp])
        await super().on_recovery_completed(generation_id)

    @Service.task
    async def _slurp_changelogs(self) -> None:
        queue = self.tables.changelog_queue
        while not self.should_stop:
            self.signal_recovery_end.clear()
            events: list[EventT[Any]] = []
            with contextlib.suppress(TimeoutError):
                events.append(await asyncio.wait_for(queue.get(), timeout=LOOK_SECONDS))
            while len(events) < MOST_TOGETHER and not queue.empty():
                events.append(queue.get_nowait())
            self._take(events)
            if self.in_recovery and not self.need_recovery():
                self._set_recovery_ended()
                self.signal_recovery_end.set()
            if not self.tables.standbys_ready and not self.standby_remaining_total():
                self.tables.on_standbys_ready()
            await asyncio.sleep(0)  # a full queue never waits

    def _take(self, events: list[EventT[Any]]) -> None:
        taken: dict[CollectionT, list[EventT[Any]]] = defaultdict(list)
        for event in events:
            tp, offset = event.message.tp, event.message.offset
            if tp not in self.active_tps:
                continue  # it was fetched before a rebalance took its partition away
            seen = self.active_offsets.get(tp)
            if seen is None or offset > seen:
                self.active_offsets[tp] = offset
                taken[self.tp_to_table[tp]].append(event)
        for table, batch in taken.items():
            try:
                table.apply_changelog_batch(batch)
            except Exception:
                # what has been read so far is incomplete, and Faust would go on with it
                log.exception("beliefs cannot be restored, the worker stops")
                os._exit(70)

    def _stores(self, tps: set[TP]) -> Iterator[tuple[TP, BeliefStore]]:
        for tp in tps:
            table = self.tp_to_table.get(tp)
            if isinstance(table, BeliefTable):
                yield tp, table.store


class BeliefTableManager(SafeTableManager):
    """For `faust.App(..., TableManager=BeliefTableManager, Table=BeliefTable)`, as `SafeTableManager`."""

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = BeliefRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


def refuse(unreadable: Mapping[Any, str]) -> None:
    """End the worker as a command ends that cannot be carried out: one line, exit status 1.

    At once, for Faust would commit and wait first, and may wait for ever.
    """
    first, *others = unreadable.values()
    more = f" (There are {len(others)} more like it.)" if others else ""
    print(f"beliefstream: {first}{more}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
