"""The live page beside the demo, as a process of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from beliefstream.streams.local.broker import GuardedProcess, free_port
from beliefstream.streams.monitoring.scraping import answers
from beliefstream.streams.settings import Settings

PORT = 8090
GRACE = 5.0  # seconds to end
START_SECONDS = 30.0  # for the first answer; one or two on an idle machine
NEEDED = ("msgspec", "starlette", "uvicorn", "websockets")
COMMAND = (sys.executable, "-m", "beliefstream", "live")


class LivePageProcess:
    """Serves the live page; a demo without it goes on.

    Args:
        settings: of the demo's worker.
        folder: for its log.
        say: called with each line for the user.
    """

    def __init__(self, settings: Settings, folder: Path, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._log_file = folder / "page.log"
        self._process: GuardedProcess | None = None
        self.address = ""

    def start(self) -> None:
        """Start it and say its address, or say in one line what is missing."""
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            self._say(f"page     not started, {missing[0]} is missing: pip install 'beliefstream[live]'")
            return
        port = free_port(PORT)
        changed = f" (port {PORT} is taken)" if port != PORT else ""
        self.address = f"http://127.0.0.1:{port}/"
        command = [*COMMAND, "--port", str(port)]
        environment = os.environ | self._settings.environment()
        self._process = GuardedProcess(command, GRACE, self._log_file.open("a+b"), environment)
        self._say(f"page     {self.address}{changed}: the beliefs on a map, log {self._log_file}")

    def wait_until_served(self) -> None:
        """Wait for the first answer; say so if there is none."""
        deadline = time.monotonic() + START_SECONDS
        while self._process is not None and not answers(self.address, without_error=False):
            if not self._process.running or time.monotonic() > deadline:
                self._say(f"page     it does not answer; its log is {self._log_file}")
                return
            time.sleep(0.1)

    def stop(self) -> None:
        """End it; returns when it has ended."""
        if self._process is not None:
            self._process.stop(GRACE)
