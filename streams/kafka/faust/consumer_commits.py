"""A consumer that knows what the broker has committed, with fixes for Faust 0.15.3.

**A refused commit is recorded as done.** Faust takes offsets as committed that the broker has refused, as it does
during a rebalance. After a refused first commit of a partition, the next seek finds no committed offset, but leaves
Faust's value in place. The partition then counts as committed, and is not sought to its beginning.
`CommittingConsumer` records the broker's answer. It is mended when `Consumer._commit_offsets` looks at what `_commit`
returns.

**Acknowledged messages outlive their partition.** Messages acknowledged while partitions are revoked stay in Faust's
lists, and count as done when the partitions come back. `CommittingConsumer` starts each assignment with empty lists. It
is mended when Faust clears `_acked` for revoked partitions.

**A failed commit hangs.** If a commit fails for another reason, Faust may hang while it holds the partitions.
`CommittingConsumer` stops the worker. It is mended when the app ends as its consumer's thread crashes.

**A message cannot be given up.** Faust waits for every delivered message at a rebalance, also for one that will be
delivered again. `release` takes it off Faust's list. It is mended when the consumer has a public method for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn, cast

import structlog
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP
from faust.types.tuples import Message
from mode.utils.futures import notify

from beliefstream.streams.monitoring.logs import SERVICES

__all__ = ["CommittingConsumer", "stop_worker"]

log = structlog.get_logger()


def stop_worker(why: str, **details: Any) -> NoReturn:
    """Log an error and end the process."""
    log.error(why, **details)
    os._exit(70)


class CommittingConsumer(Consumer):
    """Consumer that records what is committed (see the module).

    Attributes:
        committed: offsets at the broker, the next to be read; Faust's own value may be of a failed commit.
    """

    logger = SERVICES

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.committed: dict[TP, int] = {}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek all partitions to their committed offsets, and return these."""
        offsets = await super().seek_to_committed()
        self.committed = {TP(*tp): offset for tp, offset in offsets.items() if offset is not None}
        return offsets

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Clear Faust's lists; Faust calls this after it has dealt with the previous partitions."""
        for of_before in (self._acked, self._acked_index, self._gap):
            of_before.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these offsets, which may be lower than before; returns whether the broker has accepted them."""
        return await self._commit(offsets)

    def release(self, message: Message) -> None:
        """Stop waiting for a delivered message that will not be acknowledged before it is delivered again."""
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        done: bool = await super()._commit(offsets)
        if done:
            self.committed.update({tp: offset for tp, offset in offsets.items() if tp in assigned})
        elif self._thread.crashed and not cast(Any, self.app)._stopped.is_set():
            stop_worker(
                "offsets cannot be committed, the worker stops", error=repr(self._thread.crash_reason)
            )
        return done

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        for tp, offset in () if done else offsets.items():  # Faust has recorded these anyway
            committed = self.committed.get(tp)
            self._committed_offset[tp] = committed
            due = range(committed or offset - 1, offset)
            self._acked[tp].extend(due)
            self._acked_index[tp].update(due)
        return done
