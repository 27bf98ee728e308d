"""Named checkpoints in the processing of a batch; tests stop a worker there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

__all__ = ["CHECKPOINTS", "Checkpoint", "pass_by", "watch"]

Checkpoint = Literal["computed", "sending posteriors", "posteriors sent", "sending beliefs", "beliefs sent"]
"""In their order:

- `computed`: posteriors and dead letters are computed, and none is sent.
- `sending posteriors`: posteriors and dead letters are passed to the producer.
- `posteriors sent`: they are durable, the beliefs are not.
- `sending beliefs`: the beliefs' records are passed to the producer.
- `beliefs sent`: everything is durable, and no offset is committed.

A batch passes both `sending` checkpoints at each attempt to send, and neither if it has nothing to send.
"""
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
_watchers: list[Callable[[Checkpoint], None]] = []


def watch(watcher: Callable[[Checkpoint], None]) -> None:
    """Have the watcher called at every checkpoint of this process, in the event loop."""
    _watchers.append(watcher)


def pass_by(checkpoint: Checkpoint) -> None:
    """Report that the batch has reached this checkpoint."""
    for watcher in _watchers:
        watcher(checkpoint)
