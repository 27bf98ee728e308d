"""Messages that wait to be written to Kafka, by partition, and what becomes of the messages of a request."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from beliefstream.streams.client import Place

__all__ = ["Outcomes", "PartitionQueue", "QueuedMessage"]


class QueuedMessage(NamedTuple):
    """A message that waits: its record, and where its outcome belongs."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    position: int
    outcomes: Outcomes


class PartitionQueue:
    """Messages of one partition, in order.

    Attributes:
        waiting: not sent yet.
        sent: in the batch that is under way.
        is_moving: whether a task sends them.
    """

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.waiting: deque[QueuedMessage] = deque()
        self.sent: list[QueuedMessage] = []
        self.is_moving = False

    def pack(self, batch: Any) -> bool:
        """Move the first message to the batch; False if it is full. An empty batch takes any message."""
        message = self.waiting[0]
        taken = batch.append(timestamp=None, key=message.key, value=message.value, headers=message.headers)
        if taken is not None:
            self.sent.append(self.waiting.popleft())
        return taken is not None


class Outcomes:
    """What becomes of the messages of one request; `settled` is done once all are known."""

    def __init__(self, count: int) -> None:
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._results: list[Place | Exception | None] = [None] * count
        self._left = count

    def settle(self, position: int, result: Place | Exception) -> None:
        """Note the outcome of one message."""
        self._results[position] = result
        self._finish(1)

    def fail_from(self, position: int, error: Exception) -> None:
        """Note that this message and all after it were not sent."""
        count = len(self._results) - position
        self._results[position:] = [error] * count
        self._finish(count)

    def closed(self, late: Exception) -> list[Place | Exception]:
        """All outcomes, with `late` for those that are not known."""
        return [late if each is None else each for each in self._results]

    def _finish(self, count: int) -> None:
        self._left -= count
        if not self._left and not self.settled.done():
            self.settled.set_result(None)
