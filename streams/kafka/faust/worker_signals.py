"""A Faust worker with a hook for signals (Faust 0.15.3, mode 0.7.1).

mode stops all services one after the other when a signal arrives, and has no public hook for it. The private
`Worker._stop_on_signal` is the only place where an app hears of the signal before its services stop.
It is mended when `mode.Worker` has a public method or a `Signal` that is sent first.
"""

from __future__ import annotations

import asyncio
import signal

import faust

__all__ = ["SignalledWorker"]


class SignalledWorker(faust.Worker):
    """Runs `on_signal` while SIGTERM or SIGINT stops the services."""

    async def on_signal(self) -> None:
        """Override it; cancelled when the services have stopped."""

    async def _stop_on_signal(self, signal: signal.Signals) -> None:
        running = asyncio.ensure_future(self.on_signal())
        await super()._stop_on_signal(signal)
        running.cancel()
