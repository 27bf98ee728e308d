"""Python's garbage collector in a worker.

A turn makes tens of thousands of objects without cycles, which die with it and need no collector. But a collector that
runs meanwhile looks at all of them: with Python's own thresholds it takes a twentieth of the processor, and a full
collection stops the worker for 60 ms.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused", "prepare"]

COLLECTIONS = 200_000, 20, 100  # the messages of a full queue are fewer objects


def prepare() -> None:
    """Leave out all objects so far, and collect seldom; call it once everything is imported."""
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
