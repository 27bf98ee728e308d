"""Measures the observations per second of several workers of one group, beside one worker alone."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from beliefstream.streams.local.broker import free_port
from beliefstream.streams.settings.addresses import Address
from research.bench.end_to_end.site import Site, define, log_of, wait_until_ready, worker
from research.bench.end_to_end.stream import LIMIT, accepted
from research.bench.end_to_end.workload import Workload, send

STILL_SECONDS = 60.0  # for which workers may stand still before they lose their partitions
POLL_SECONDS = 0.5  # between two looks at what the workers have counted, which take each of them 8 ms


def measure_workers(site: Site, workload: Workload, workers: int) -> float:
    """Return the observations a second of `workers` workers that share the partitions.

    The workers are ready before the first observation is sent, so that none has to take partitions from another. They
    stand still while it is sent, so that the sender takes no core from them. The time is that from then to the last
    observation applied, so entities' first reports are in it.

    Raises:
        RuntimeError: a worker has ended, or the observations are not sent or worked off in time.
    """
    settings = site.settings()
    define(settings, workload.simulation)
    each = [
        settings.model_copy(
            update={
                "web_address": Address("127.0.0.1", free_port()),
                "session_timeout": STILL_SECONDS,
                "data_directory": settings.data_directory.parent / f"worker-{number}" / "data",
            }
        )
        for number in range(workers)
    ]
    count = len(workload.observations)
    with ExitStack() as stack:
        for own in each:
            own.data_directory.mkdir(parents=True)
        children = [stack.enter_context(worker(own)) for own in each]
        for own, child in zip(each, children, strict=True):
            wait_until_ready(own, child)
        with _standing_still(children):
            send(settings, workload)
        began = time.perf_counter()
        limit = time.monotonic() + LIMIT
        while sum(accepted(own) for own in each) < count:
            if any(child.poll() is not None for child in children) or time.monotonic() > limit:
                raise RuntimeError(f"bench: {count} observations are not worked off; see {log_of(each[0])}")
            time.sleep(POLL_SECONDS)
        return count / (time.perf_counter() - began)


@contextmanager
def _standing_still(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Suspend the processes in the block; raises RuntimeError if they may have lost their partitions meanwhile."""
    stopped = time.perf_counter()
    for child in children:
        child.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for child in children:
            child.send_signal(signal.SIGCONT)
    if time.perf_counter() - stopped > STILL_SECONDS / 2:  # their last heartbeats came up to a quarter before
        raise RuntimeError("bench: sending took too long; take fewer --entities or --reports")
