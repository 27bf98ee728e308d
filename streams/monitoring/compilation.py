"""Says what a program waits for while native code is compiled: a bar in a terminal, lines of the log otherwise."""

from __future__ import annotations

import sys
import time

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeElapsedColumn

from beliefstream.inference import native_code
from beliefstream.inference.mixtures.native import processor

COMPILING = "compiling native code, once on this machine"
LINE_EVERY = 5.0  # seconds between lines of the log
log = structlog.get_logger()


def prepare() -> None:
    """Compile all native code, or load it from the cache, which is silent."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[progress]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    began, said, functions = 0.0, 0.0, 0

    def report(progress: native_code.Progress) -> None:
        nonlocal began, said, functions
        now, functions = time.monotonic(), progress.functions
        if not began:  # with the first function that is compiled
            began = now
            bar.add_task(COMPILING, total=progress.total, progress="")
            bar.start()
        for task in bar.task_ids:
            bar.update(task, completed=progress.done, progress=str(progress))
        if bar.disable and now >= said + LINE_EVERY:
            said = now
            _say(f"{COMPILING}: {progress}")

    try:
        native_code.prepare(report)
    finally:
        bar.stop()
    if began:
        seconds = time.monotonic() - began
        _say(f"native code is compiled for {processor()}: {functions} functions, {seconds:.0f} s")


def _say(line: str) -> None:
    if structlog.is_configured():
        log.info(line)
    else:  # by default structlog writes to standard output, which is for results
        print(line, file=sys.stderr)
