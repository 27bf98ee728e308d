"""Named points that a batch passes on its way, at which tests stop a worker; nothing happens there otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

__all__ = ["CHECKPOINTS", "Checkpoint", "pass_by", "watch"]

Checkpoint = Literal["computed", "flying", "between", "landing", "kept"]
"""In their order:

- `computed`: posteriors and dead letters are there, and none is sent.
- `flying`: they are handed to the producer now.
- `between`: they are durable, the beliefs are not.
- `landing`: the beliefs' records are handed to the producer now.
- `kept`: all is durable, and nothing is acknowledged.

`flying` and `landing` are passed again at each attempt to send, and not at all where there is nothing to send.
"""
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
_watchers: list[Callable[[Checkpoint], None]] = []


def watch(watcher: Callable[[Checkpoint], None]) -> None:
    """Has the watcher called at every checkpoint of this process, in the event loop."""
    _watchers.append(watcher)


def pass_by(checkpoint: Checkpoint) -> None:
    """The batch has come there."""
    for watcher in _watchers:
        watcher(checkpoint)
