"""Hooks that Faust 0.15.3 and mode 0.7.1 do not have: before a worker stops on a signal, and for the store of a table.

When a signal arrives, mode stops all services one after the other, and has no public hook before that. An app can act
on the signal only in the private `Worker._stop_on_signal`.
Fixed upstream when `mode.Worker` has a public method for it, or a `Signal` that is sent first.
"""

from __future__ import annotations

import abc
import asyncio
import signal
from typing import Any

import faust

from beliefstream.streams.monitoring.logs import SERVICES


class TableWithStore(faust.Table[bytes, bytes], abc.ABC):
    """A table that creates its own store.

    Faust has a fixed list of store classes, and chooses one by the scheme of the `store` setting. An application can
    provide its own class only through the private `_new_store`. Fixed upstream when `faust.Table` takes a store, or a
    public factory of stores.
    """

    logger = SERVICES

    @abc.abstractmethod
    def new_store(self) -> Any:
        """Return the store; called once."""

    def _new_store(self) -> Any:
        return self.new_store()


class SignalledWorker(faust.Worker):
    """Runs `on_signal` while SIGTERM or SIGINT stops the services."""

    async def on_signal(self) -> None:
        """Override this; it is cancelled when the services have stopped."""

    async def _stop_on_signal(self, signal: signal.Signals) -> None:
        running = asyncio.ensure_future(self.on_signal())
        await super()._stop_on_signal(signal)
        running.cancel()
