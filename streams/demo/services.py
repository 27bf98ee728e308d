"""Processes of the demo: the embedded broker, one worker, whose metrics it reads, and the live page."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from beliefstream.schemas import Model, Sensor
from beliefstream.streams.client import Registry
from beliefstream.streams.demo.page import LivePageProcess
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, GuardedProcess, free_port
from beliefstream.streams.monitoring.compilation import COMPILING
from beliefstream.streams.monitoring.scraping import Snapshot, answers, scrape
from beliefstream.streams.settings import PROTECTION, Settings
from beliefstream.streams.settings.addresses import Address

BROKER_PORT, WEB_PORT = 9092, 8080
READY_TIMEOUT = 300.0  # seconds; torch loads slowly from a cold disk, and a first start compiles native code
WORKER_GRACE = 15.0  # seconds for a worker to finish its batch and end
# the demo has its own broker and topics, so it ignores a user's settings of them
NOT_FROM_ENVIRONMENT = (
    "application",
    "topics",
    "partitions",
    "maximum_message_bytes",
    *PROTECTION,
)


class DemonstrationError(RuntimeError):
    """Raised if the demo cannot continue; the message says why."""


@dataclass(frozen=True)
class WorkerFigures:
    """Figures from the metrics of a worker."""

    dead_letters: dict[str, int] = field(default_factory=dict)  # by reason
    rejected: int = 0  # observations that became dead letters
    batches: int = 0
    update_seconds: float = 0.0  # total time of updates
    device: str = ""


class DemoServices:
    """Broker, topics, definitions and a worker, as a context manager that stops and removes all of them.

    Args:
        settings: settings of the worker, except for broker, topics and port.
        folder: folder for the worker's log and local files.
        say: called with each line for the user.
        page: whether to serve the live page too.
    """

    def __init__(
        self, settings: Settings, folder: Path, say: Callable[[str], None], page: bool = False
    ) -> None:
        self.log_file = folder / "worker.log"
        self._settings, self._folder, self._say = settings, folder, say
        self._stack = ExitStack()
        self._worker: GuardedProcess | None = None
        self._wants_page = page
        self._page: LivePageProcess | None = None
        self.broker = EmbeddedBroker(BROKER_PORT)
        self.web_port = WEB_PORT

    @property
    def bootstrap_servers(self) -> str:
        return self.broker.bootstrap_servers

    @property
    def web_address(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def page_address(self) -> str:
        """Address of the live page; empty if it was not started."""
        return self._page.address if self._page is not None else ""

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.broker)
            changed = f" (port {BROKER_PORT} is taken)" if self.broker.port_changed else ""
            self._say(f"broker   {self.bootstrap_servers}{changed}")
            names = topics.create(self.bootstrap_servers)
            self._say(f"topics   {', '.join(names)}")
            settings = self._own_settings()
            self._start_worker(settings)
            if self._wants_page:
                self._page = LivePageProcess(settings, self._folder, self._say)
                self._stack.callback(self._page.stop)
                self._page.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._worker is not None:
            self._worker.kill()  # its results are not needed after an error
        self.close()

    def close(self) -> None:
        """Stop the page, the worker, then the broker. Returns when all have ended."""
        self._stack.close()

    def define(self, models: Iterable[Model], sensors: Iterable[Sensor]) -> None:
        """Write definitions to their topics; raises DefinitionConflict if a different one exists."""
        with Registry(self.bootstrap_servers) as registry:
            registry.define(sensors, models)

    def wait_until_ready(self, waiting: Callable[[str], None], timeout: float = READY_TIMEOUT) -> None:
        """Wait until the worker processes observations, and the page answers; `waiting` is told what the worker does.

        Raises:
            DemonstrationError: the worker ended, or is not ready in time.
        """
        deadline = time.monotonic() + timeout
        while not answers(f"{self.web_address}/readyz"):
            self.check()
            if time.monotonic() > deadline:
                raise self.failure(f"the worker is not ready after {timeout:g} s")
            waiting(self._news())
            time.sleep(0.2)
        if self._page is not None:
            self._page.wait_until_served()

    def check(self) -> None:
        """Raise DemonstrationError if the broker or the worker has ended."""
        if self._worker is not None and not self._worker.running:
            raise self.failure("the worker has ended")
        if not self.broker.running:
            raise DemonstrationError("the broker has ended")

    def _news(self) -> str:
        """How far the worker is with its native code; empty if it does not compile any."""
        *lines, _ = self.log_file.read_text(errors="replace").split("\n")  # the last may not be whole yet
        told = [json.loads(line)["event"] for line in lines if COMPILING in line]
        return told[-1] if told else ""

    def failure(self, text: str) -> DemonstrationError:
        """Print the last lines of the worker's log, and return the error to raise."""
        for line in self.log_file.read_text(errors="replace").splitlines()[-12:]:
            self._say(f"  {line}")
        return DemonstrationError(f"{text}; its log is {self.log_file}")

    def figures(self) -> WorkerFigures | None:
        """Return the worker's current figures; None if it does not answer at once."""
        try:
            return figures_of(scrape(self.web_address))
        except OSError:
            return None

    def _own_settings(self) -> Settings:
        self.web_port = free_port(WEB_PORT)
        own = {name: Settings.model_fields[name].default for name in NOT_FROM_ENVIRONMENT}
        return self._settings.model_copy(
            update={
                **own,
                "brokers": self.bootstrap_servers,
                "web_address": Address("127.0.0.1", self.web_port),
                "fetch_high_watermark": True,
                "data_directory": self._folder / "data",
                "logs": "json",
            }
        )

    def _start_worker(self, settings: Settings) -> None:
        changed = f" (port {WEB_PORT} is taken)" if self.web_port != WEB_PORT else ""
        command = [sys.executable, "-m", "beliefstream", "worker"]
        # append mode, so that reading the log does not move the worker's write position
        output = self.log_file.open("a+b")
        self._worker = GuardedProcess(command, WORKER_GRACE, output, os.environ | settings.environment())
        self._stack.callback(self._worker.stop, WORKER_GRACE)
        self._say(f"worker   {self.web_address}{changed}: /healthz /readyz /metrics, log {self.log_file}")


def figures_of(metrics: Snapshot) -> WorkerFigures:
    """Return the figures among a worker's metrics."""
    dead = metrics.by("beliefstream_dead_letters_total", "reason")
    return WorkerFigures(
        {reason: int(count) for reason, count in dead.items() if count},
        int(metrics.by("beliefstream_observations_total", "outcome").get("rejected", 0)),
        int(metrics.total("beliefstream_update_seconds_count")),
        metrics.total("beliefstream_update_seconds_sum"),
        next(iter(metrics.by("beliefstream_build_info", "device")), ""),
    )
