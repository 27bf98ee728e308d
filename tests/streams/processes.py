"""Processes that end with the tests: a program under a guard, and a fork of what is imported already."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from beliefstream.streams.local.process_guard import KILL, guarded
from tests.streams.forked import fork


class Process(Protocol):
    """One that runs or has ended."""

    @property
    def pid(self) -> int: ...

    def status(self) -> int | None:
        """How it has ended, or None; 1 also if a signal ended it."""

    def wait(self, timeout: float) -> int:
        """Its status, when it has ended; raises `subprocess.TimeoutExpired`."""

    def ask_to_end(self) -> None:
        """SIGTERM, and no waiting."""

    def kill(self) -> None:
        """SIGKILL, and waits for a moment until it has ended."""


class Program:
    """A command under a guard, which ends it when this process ends.

    Args:
        grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: Path, grace: float
    ) -> None:
        with output.open("ab") as opened:
            self._guard = subprocess.Popen(
                guarded([*command], grace),
                env=environment,
                stdin=subprocess.PIPE,
                stdout=opened,
                stderr=opened,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the program itself, which is the guard's only child."""
        guard = self._guard.pid
        return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])

    def status(self) -> int | None:
        status = self._guard.poll()
        if status is not None:
            self.ask_to_end()  # closes the pipe
        return status

    def wait(self, timeout: float) -> int:
        status = self._guard.wait(timeout)
        self.ask_to_end()
        return status

    def ask_to_end(self) -> None:
        assert self._guard.stdin is not None
        with suppress(OSError):  # it has ended without reading all of it
            self._guard.stdin.close()

    def kill(self) -> None:
        assert self._guard.stdin is not None
        if self._guard.stdin.closed:  # it is about to end, as it was asked to
            with suppress(OSError, IndexError):
                os.kill(self.pid, signal.SIGKILL)
        else:
            with suppress(OSError):  # it ends just now
                self._guard.stdin.write(KILL)
                self._guard.stdin.flush()
        self.wait(10)


class Fork:
    """`python -m module arguments` in a fork of a process that has imported what a worker needs."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], output: Path
    ) -> None:
        self._process = fork(module, arguments, environment, output)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def status(self) -> int | None:
        status = self._process.exitcode
        return status if status is None or status >= 0 else 1

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        status = self.status()
        if status is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout)
        return status

    def ask_to_end(self) -> None:
        if self.status() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.status() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.wait(10)
