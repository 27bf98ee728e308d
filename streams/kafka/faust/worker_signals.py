"""A Faust worker with a hook for signals (Faust 0.15.3, mode 0.7.1).

When a signal arrives, mode stops all services one after the other, and has no public hook before that. An app can act
on the signal only in the private `Worker._stop_on_signal`.
Fixed upstream when `mode.Worker` has a public method for it, or a `Signal` that is sent first.
"""

from __future__ import annotations

import asyncio
import signal

import faust

__all__ = ["SignalledWorker"]


class SignalledWorker(faust.Worker):
    """Runs `on_signal` while SIGTERM or SIGINT stops the services."""

    async def on_signal(self) -> None:
        """Override this; it is cancelled when the services have stopped."""

    async def _stop_on_signal(self, signal: signal.Signals) -> None:
        running = asyncio.ensure_future(self.on_signal())
        await super()._stop_on_signal(signal)
        running.cancel()
