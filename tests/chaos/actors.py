"""Workers that can be hit where it hurts."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

from tests.brokers import Broker
from tests.conftest import Names, eventually
from tests.streams.workers import START_TIMEOUT, Worker


class AimedWorker(Worker):
    """`tests.chaos.worker` in a process that ends with this one.

    Args:
        aim: as `CHAOS_AIM` there; empty for none.
        clock: a file with the seconds that its clock is off.
    """

    command = (sys.executable, "-m", "tests.chaos.worker")

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

    @property
    def pid(self) -> int:
        """Of the worker itself, which is the guard's only child."""
        assert self._guard is not None
        guard = self._guard.pid
        return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])

    @property
    def suspended(self) -> bool:
        """Whether SIGSTOP has reached it."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except (OSError, IndexError):
            return False
        return status.rpartition(")")[2].split()[0] == "T"

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def ready(self) -> bool:
        """Whether it processes observations."""
        return self.running and not self.suspended and self.page("/readyz")[0] == 200

    def ask_to_end(self) -> None:
        """SIGTERM, and no waiting."""
        assert self._guard is not None
        assert self._guard.stdin is not None
        self._guard.stdin.close()

    def suspend(self) -> None:
        """SIGSTOP: it does nothing, sends no heartbeats, and does not know."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def look_at_clock(self) -> None:
        """Its clock file has changed."""
        os.kill(self.pid, signal.SIGUSR1)

    def wait_until_suspended(self) -> Self:
        eventually(lambda: self.suspended, START_TIMEOUT, "the worker has suspended itself")
        return self
