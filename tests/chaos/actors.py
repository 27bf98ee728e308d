"""Workers that can be hit where it hurts."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
from pathlib import Path
from typing import Any, Self

import pytest

from tests.brokers import Broker
from tests.chaos.worker import KEPT
from tests.conftest import Names, eventually
from tests.streams.workers import START_TIMEOUT, Worker


class AimedWorker(Worker):
    """`tests.chaos.worker` in a process that ends with this one.

    Args:
        aim: as `CHAOS_AIM` there; empty for none.
        clock: a file with the seconds that its clock is off.

    Attributes:
        asked: how it was asked to end, "kill" or "terminate"; empty if it was not.
        allowed: texts; errors of it that hold one of them are what was to be brought about.
    """

    _numbers = itertools.count(1)
    module = "tests.chaos.worker"

    def __init__(
        self,
        broker: Broker,
        names: Names,
        directory: Path,
        aim: str = "",
        clock: Path | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(broker, names, directory, **settings)
        self.environment |= {"CHAOS_AIM": aim, "CHAOS_CLOCK": str(clock or "")}
        # no two workers have one log: a port may be drawn twice
        self._output = directory / f"worker-{next(self._numbers):03d}-{self.port}.log"
        self.directory = Path(settings.get("data_directory", directory))
        self.asked = ""
        self.allowed: set[str] = set()

    @property
    def suspended(self) -> bool:
        """Whether SIGSTOP has reached it."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except (OSError, IndexError):
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    @property
    def name(self) -> str:
        """Of its log."""
        return self._output.name

    @property
    def status(self) -> int | None:
        """How it has ended, or None; 1 also if a signal ended it."""
        return None if self._process is None else self._process.status()

    @property
    def ready(self) -> bool:
        """Whether it processes observations."""
        if not self.running or self.suspended:
            return False
        with contextlib.suppress(pytest.fail.Exception):  # it ends just now
            return self.page("/readyz")[0] == 200
        return False

    @property
    def owned(self) -> set[str]:
        """`topic-partition` of what it processes; nothing if it does not, or has ended."""
        if not self.running or self.suspended:
            return set()
        with contextlib.suppress(pytest.fail.Exception):  # it ends just now
            return self.assigned
        return set()

    @property
    def kept_appointment(self) -> bool:
        """Whether it has come to where it was to be killed or suspended."""
        return KEPT in self.log()

    @property
    def fenced(self) -> bool:
        """Whether it has stopped because another worker has its partitions."""
        return any(str(line["event"]).startswith("fenced") for line in self.said())

    def said(self) -> list[dict[str, Any]]:
        """The events in its log; a line that is half written is none."""
        found = []
        for line in self.log().splitlines():
            if line.startswith('{"'):
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict) and "event" in line]

    def log(self) -> str:
        return super().log() if self._output.exists() else ""

    @property
    def log_bytes(self) -> int:
        return self._output.stat().st_size

    def kill(self) -> None:
        """kill -9; nothing if it has ended, which is not forgotten."""
        if self.running:
            self.asked = self.asked or "kill"
            super().kill()

    def ask_to_end(self) -> None:
        """SIGTERM, and no waiting."""
        if self.running:
            self.asked = "terminate"
            self._started.ask_to_end()

    def look_at_clock(self) -> None:
        """Its clock file has changed."""
        os.kill(self.pid, signal.SIGUSR1)

    def wait_until_suspended(self) -> Self:
        eventually(lambda: self.suspended, START_TIMEOUT, "the worker has suspended itself")
        return self
