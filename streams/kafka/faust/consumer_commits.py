"""A consumer that records the committed offsets correctly, with fixes for Faust 0.15.3.

**A refused commit is recorded as done.** Faust takes offsets as committed that the broker has refused, as it does
during a rebalance. After a refused first commit of a partition, the next seek finds no committed offset, but leaves
Faust's value in place. The partition then counts as committed, and is not sought to its beginning.
`CommittingConsumer` records the broker's answer. Fixed upstream when `Consumer._commit_offsets` checks the result of
`_commit`.

**Acknowledged messages remain after a revocation.** Messages acknowledged while partitions are revoked stay in Faust's
lists, and count as done when the partitions come back. `CommittingConsumer` starts each assignment with empty lists.
Fixed upstream when Faust clears `_acked` for revoked partitions.

**A failed commit hangs.** If a commit fails for another reason, Faust may hang and keep the partitions.
`CommittingConsumer` stops the worker. Fixed upstream when the app ends if its consumer's thread crashes.

**Each message is noted alone.** Faust notes each message that a stream takes and each that it acknowledges, with three
locks, its sensors and a look for whoever waits. `track` and `acknowledge` note many at once, in the same lists. They
tell the sensors of the newest of each partition only: nothing reads how many there were. Fixed upstream when
`Consumer.track_message` and `Consumer.ack` take many messages.

**A message cannot be dropped.** At a rebalance Faust waits for every delivered message, even for one that will be
delivered again. `release` removes it from Faust's list. Fixed upstream when the consumer has a public method for it.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn, cast

import structlog
from faust.types import TP
from faust.types.tuples import Message, ack_lock
from mode.utils.futures import notify

from beliefstream.streams.kafka.faust.bulk_delivery import BulkConsumer
from beliefstream.streams.monitoring.logs import SERVICES

__all__ = ["CommittingConsumer", "stop_worker"]

log = structlog.get_logger()


def stop_worker(why: str, **details: Any) -> NoReturn:
    """Log an error and end the process."""
    log.error(why, **details)
    os._exit(70)


class CommittingConsumer(BulkConsumer):
    """Consumer that records which offsets are committed (see the module).

    Attributes:
        committed: the committed offsets at the broker. Faust's own value may come from a refused commit.
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
        """Clear Faust's lists; Faust calls this after it has released the previous partitions."""
        for of_before in (self._acked, self._acked_index, self._gap):
            of_before.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these offsets, which may be lower than before, and return whether the broker has accepted them."""
        return await self._commit(offsets)

    def release(self, message: Message) -> None:
        """Stop waiting for a delivered message that will not be acknowledged before it is delivered again."""
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    def track(self, messages: Collection[Message]) -> None:
        """Count messages as received now and not acknowledged; those of a partition are in order."""
        now = time.monotonic()
        for message in messages:
            message.tracked, message.time_in = True, now
        self._unacked_messages.update(messages)  # type: ignore[attr-defined]  # of a set of weak references
        for place, newest in {message.tp: message for message in messages}.items():
            self._on_message_in(place, newest.offset, newest)

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages for one of the streams that read them; their offsets may be committed after the last."""
        finished: dict[TP, list[Message]] = defaultdict(list)
        with ack_lock:
            for message in messages:
                if not message.acked:
                    message.refcount = max(message.refcount - 1, 0)
                    if not message.refcount:
                        message.acked = True
                        finished[message.tp].append(message)
            for place, done in finished.items():
                self._unacked_messages.difference_update(done)  # type: ignore[attr-defined]
                if self.app.topics.acks_enabled_for(place.topic):
                    self._note_acknowledged(place, [message.offset for message in done])
            notify(self._waiting_for_ack)
        for place, done in finished.items():
            self.app.sensors.on_message_out(place, done[-1].offset, done[-1])

    def _note_acknowledged(self, place: TP, offsets: Iterable[int]) -> None:
        committed, index, acknowledged = (
            self._committed_offset[place],
            self._acked_index[place],
            self._acked[place],
        )
        for offset in offsets:
            if (committed is None or offset >= committed) and offset not in index:
                index.add(offset)
                acknowledged.append(offset)
                self._n_acked += 1

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
        for tp, offset in (
            () if done else offsets.items()
        ):  # Faust has recorded these although they were refused
            committed = self.committed.get(tp)
            self._committed_offset[tp] = committed
            due = range(committed or offset - 1, offset)
            self._acked[tp].extend(due)
            self._acked_index[tp].update(due)
        return done
