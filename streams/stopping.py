"""Shutdown of a worker by a signal, even if no broker answers.

Faust first commits and leaves its group, and each step waits for a broker: a minute, or for ever. Nothing is lost if
they are skipped: uncommitted messages are delivered again, and the beliefs recognise them by their offsets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import faust
import structlog

from streams.reachability import Reachability

__all__ = ["Runner"]

log = structlog.get_logger()
GRACE_SECONDS = 5.0  # for a broker that is just coming back
LOOK_SECONDS = 0.5


class Runner(faust.Worker):
    """Runs an app until SIGTERM or SIGINT; ends within seconds if no broker answers.

    Args:
        reachability: the one that the app updates.
    """

    def __init__(self, app: faust.App, reachability: Reachability) -> None:
        super().__init__(app, override_logging=False, redirect_stdouts=False, quiet=True)
        self._reachability = reachability

    async def _stop_on_signal(self, signal: signal.Signals) -> None:
        ending = asyncio.ensure_future(self._end_without_broker())
        await super()._stop_on_signal(signal)
        ending.cancel()

    async def _end_without_broker(self) -> None:
        signalled = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            fault = self._reachability.fault
            if fault is not None and time.monotonic() - signalled > GRACE_SECONDS:
                break
        log.warning(
            "the worker ends without a commit; what it has not committed is delivered again, and not applied twice",
            fault=fault,
        )
        for store in self._stores():
            await store.on_stop()  # closes files; nothing else runs before the end
        logging.shutdown()
        os._exit(0)

    def _stores(self) -> Iterator[Any]:
        tables: Any = self.app.tables
        for table in tables.values():
            yield table.data
