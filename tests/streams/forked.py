"""Forks workers from a process that has imported what a worker imports, which costs more than all else at its start.

Each is a process of its own, with its own environment and log, and ends as any other when it is killed.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from beliefstream.streams.local.process_guard import PR_SET_PDEATHSIG

PRELOADED = (
    "beliefstream.streams.cli.main",
    "beliefstream.streams.cli.services.worker",
    "beliefstream.streams.kafka.topics",
    "beliefstream.streams.worker.app",
    "beliefstream.streams.worker.process",
    "beliefstream.streams.worker.app",
    "tests.streams.preloaded",
)


def fork(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], output: Path
) -> ForkServerProcess:
    """Run `python -m module arguments`, and append what it writes to a file; it ends with the process that asks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    child = context.Process(
        target=run_forked, args=(module, [*arguments], dict(environment), str(output)), daemon=True
    )
    child.start()
    return child


def run_forked(module: str, arguments: list[str], environment: dict[str, str], output: str) -> None:
    """In the new process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(written, descriptor)
    os.close(written)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
