"""Ends the worker: after a signal, even if no broker answers, and after a fault.

After a signal Faust commits and leaves its group. Each step waits for a broker, for a minute or for ever. Skipping
these steps loses nothing: uncommitted messages are delivered again, and the beliefs skip them by their offsets.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faust
import structlog

from beliefstream.streams.kafka.faust.hooks import SignalledWorker
from beliefstream.streams.kafka.reachability import Reachability

log = structlog.get_logger()
GRACE_SECONDS = 5.0  # time for a broker to come back
STOP_SECONDS = 25.0  # for services that do not stop though a broker answers; Kubernetes kills after 30
CHECK_SECONDS = 0.5
COLLECTIONS = 200_000, 20, 100  # the messages of a full queue are fewer objects


class Runner(SignalledWorker):
    """Runs an app until SIGTERM or SIGINT; ends within seconds if no broker answers, and within 25 in any case.

    Args:
        reachability: the `Reachability` that the app updates.
    """

    def __init__(self, app: faust.App, reachability: Reachability) -> None:
        super().__init__(app, override_logging=False, redirect_stdouts=False, quiet=True)
        self._reachability = reachability

    async def on_signal(self) -> None:
        """End the process if no broker answers for a few seconds, or if the services do not stop."""
        begun, fault = time.monotonic(), None
        while time.monotonic() < begun + (GRACE_SECONDS if fault else STOP_SECONDS):
            await asyncio.sleep(CHECK_SECONDS)
            fault = self._reachability.fault
        log.warning(
            "the worker ends without a commit; uncommitted messages are delivered again, and not applied twice",
            fault=fault or f"the services have not stopped within {STOP_SECONDS:g} s",
        )
        for store in self._stores():
            await store.on_stop()  # closes files; no other service needs to stop
        logging.shutdown()
        os._exit(0)

    def _stores(self) -> Iterator[Any]:
        tables: Any = self.app.tables
        for table in tables.values():
            yield table.data


def prepare() -> None:
    """Leave out all objects so far, and collect seldom; call it once everything is imported.

    A turn makes tens of thousands of objects without cycles, which die with it and need no collector. But a collector
    that runs meanwhile looks at all of them: with Python's own thresholds it takes a twentieth of the processor, and a
    full collection stops the worker for 60 ms.
    """
    gc.freeze()  # a full collection would look at the half a million objects of torch and Faust each time
    gc.set_threshold(*COLLECTIONS)


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing inside, in any thread; what has become due is collected afterwards."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
