"""Compiles all native code, or loads it from the cache, before the first batch needs it.

    python -m beliefstream.inference.native_code

does it ahead, in an image or after an installation, in a process for each of two processors, and says how far it is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import NamedTuple

from beliefstream.inference.likelihood import native_observations, predicted_observations
from beliefstream.inference.mixtures import (
    native_density,
    native_linear_algebra,
    native_maximisation,
    reduction,
)
from beliefstream.inference.mixtures.native import compilation_watched, processor
from beliefstream.inference.tracking import accumulated_error, native_bent_steps, native_steps
from beliefstream.inference.tracking.health import native_fits
from beliefstream.inference.update.check import climb, native_importance, unobserved
from beliefstream.inference.update.closed import updates
from beliefstream.inference.update.persistent import single_observation
from beliefstream.inference.update.plane import polar_answers, several_observations

PROCESSES = 2  # each compiles again what several modules share, and takes a gigabyte
REPORT_EVERY = 5.0  # seconds
# those that take longest come first, so that two processes end together
MODULES = (
    native_bent_steps,
    polar_answers,
    native_steps,
    several_observations,
    reduction,
    updates,
    native_observations,
    unobserved,
    native_density,
    native_fits,
    climb,
    native_importance,
    native_maximisation,
    native_linear_algebra,
    accumulated_error,
    single_observation,
    predicted_observations,
)


class Progress(NamedTuple):
    """How far compilation is."""

    done: int  # modules
    functions: int  # compiled so far, in this process
    total: int = len(MODULES)

    def __str__(self) -> str:
        return f"{self.done} of {self.total} modules, {self.functions} functions"


Report = Callable[[Progress], None]


def prepare(report: Report | None = None) -> int:
    """Compile all native code, or load it from the cache; returns how many functions were compiled.

    `report` is called after each of them.
    """
    done = 0

    def watch(functions: int) -> None:
        if report is not None:
            report(Progress(done, functions))

    with compilation_watched(watch) as functions:
        for module in MODULES:
            module.prepare()
            done += 1
        return functions()


def prepare_in_processes(report: Report) -> None:
    """Compile all native code into the cache, in `PROCESSES` processes; reports every few seconds."""
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        # Ctrl-C in a terminal reaches them too; they inherit that it is ignored, and end with this process
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        left = {pool.submit(_prepare_module, number) for number in range(len(MODULES))}
        signal.signal(signal.SIGINT, handler)
        functions = 0
        try:
            while left:
                done, left = wait(left, REPORT_EVERY, FIRST_COMPLETED)
                functions += sum(task.result() for task in done)
                report(Progress(len(MODULES) - len(left), functions))
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _prepare_module(number: int) -> int:
    with compilation_watched() as functions:
        MODULES[number].prepare()
        return functions()


def main() -> None:
    """Compile ahead, and tell on standard error."""
    began, end = time.monotonic(), "\r" if sys.stderr.isatty() else "\n"

    def report(progress: Progress) -> None:
        seconds = f"{time.monotonic() - began:.0f} s (about 60 where nothing else runs)"
        print(f"compiling native code: {progress}, {seconds}", end=end, file=sys.stderr, flush=True)

    try:
        if (os.cpu_count() or 1) >= PROCESSES:
            prepare_in_processes(report)
        else:
            prepare(report)
    except KeyboardInterrupt:
        print("\nstopped; what was compiled is kept", file=sys.stderr)
        raise SystemExit(130) from None
    print(f"native code for {processor()} after {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
