"""Keeps the demo running in the background after the command has returned (option `--keep`)."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress


class Background:
    """A fork of this process: the child does the work, and the parent only waits for `leave`.

    The child starts all other processes, so they end when it ends. Without fork (Windows) there is one process, and
    `leave` waits in the foreground.
    """

    def __init__(self) -> None:
        self._report: int | None = None
        if not hasattr(os, "fork"):
            return
        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            sys.exit(_wait(child, reading))
        os.close(reading)
        self._report = writing

    def leave(self) -> None:
        """Let the parent exit with status 0, then wait for SIGTERM or SIGINT."""
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        if self._report is not None:
            os.setsid()  # the child continues when the terminal is closed
            sys.stdout.flush()
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            os.write(self._report, b"0")
            os.close(self._report)
        ended.wait()


def _wait(child: int, reading: int) -> int:
    """Return the child's exit status, or 0 as soon as the child has called `leave`."""
    interrupt = signal.getsignal(signal.SIGINT)
    # Ctrl-C also reaches the child, which then ends its processes, so wait for it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _terminate(child))
    reported = os.read(reading, 1)
    signal.signal(signal.SIGINT, interrupt)
    return 0 if reported else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _terminate(child: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
