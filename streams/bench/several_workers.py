"""Measures the observations per second of several workers of one group, beside one worker alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from beliefstream.streams.bench.site import Site, define, log_of, samples, wait_until_ready, worker
from beliefstream.streams.bench.stream import ACCEPTED, LIMIT
from beliefstream.streams.bench.workload import Workload, send
from beliefstream.streams.local.broker import free_port

__all__ = ["measure_workers"]

POLL_SECONDS = 0.5  # between two looks at what the workers have counted, which take each of them 8 ms


def measure_workers(site: Site, workload: Workload, workers: int, start_with: Sequence[str] = ()) -> float:
    """Return the observations a second of `workers` workers that share the partitions.

    The workers are ready before the first observation is sent, so that none has to take partitions from another. The
    time is that from the first observation sent to the last one applied, so entities' first reports are in it.

    Args:
        start_with: a command that starts each worker, such as one that limits it to a part of a core.

    Raises:
        RuntimeError: a worker has ended, or the observations are not worked off in time.
    """
    settings = site.settings()
    define(settings, workload.simulation)
    each = [
        settings.model_copy(
            update={
                "web_port": free_port(),
                "data_directory": settings.data_directory.parent / f"worker-{number}" / "data",
            }
        )
        for number in range(workers)
    ]
    count = len(workload.observations)
    with ExitStack() as stack:
        for own in each:
            own.data_directory.mkdir(parents=True)
        children = [stack.enter_context(worker(own, start_with)) for own in each]
        for own, child in zip(each, children, strict=True):
            wait_until_ready(own, child)
        began = time.perf_counter()
        send(settings, workload)
        limit = time.monotonic() + LIMIT
        while sum(samples(own).get(ACCEPTED, 0.0) for own in each) < count:
            if any(child.poll() is not None for child in children) or time.monotonic() > limit:
                raise RuntimeError(f"bench: {count} observations are not worked off; see {log_of(each[0])}")
            time.sleep(POLL_SECONDS)
        return count / (time.perf_counter() - began)
