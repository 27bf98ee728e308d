"""Says what a program waits for while native code is compiled: a bar in a terminal, lines of the log otherwise."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeElapsedColumn

from beliefstream.inference import native_code
from beliefstream.inference.mixtures.native import processor

__all__ = ["COMPILING", "prepare"]

COMPILING = "compiling native code, once on this machine"
LINE_EVERY = 5.0  # seconds between lines of the log
log = structlog.get_logger()


def prepare() -> None:
    """Compile all native code, or load it from the cache, which is silent."""
    with _Compilation() as compilation:
        native_code.prepare(compilation.report)


class _Compilation:
    """Begins to speak with the first function that is compiled."""

    def __init__(self) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[progress]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._began = self._said = 0.0
        self._functions = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._began and error is None:
            seconds = time.monotonic() - self._began
            _say(f"native code is compiled for {processor()}: {self._functions} functions, {seconds:.0f} s")

    def report(self, progress: native_code.Progress) -> None:
        now, self._functions = time.monotonic(), progress.functions
        if not self._began:
            self._began = now
            self._bar.add_task(COMPILING, total=progress.total, progress="")
            self._bar.start()
        for task in self._bar.task_ids:
            self._bar.update(task, completed=progress.done, progress=str(progress))
        if self._bar.disable and now >= self._said + LINE_EVERY:
            self._said = now
            _say(f"{COMPILING}: {progress}")


def _say(line: str) -> None:
    if structlog.is_configured():
        log.info(line)
    else:  # by default structlog writes to standard output, which is for results
        print(line, file=sys.stderr)
