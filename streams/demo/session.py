"""Runs the demo, from the start of the broker to the report."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from beliefstream.streams.demo.background import Background
from beliefstream.streams.demo.report import Result, compare_all, print_report, wait_for_baselines
from beliefstream.streams.demo.scenario import Scenario, Schedule, schedule_of
from beliefstream.streams.demo.services import DemoServices
from beliefstream.streams.demo.stream import Stream
from beliefstream.streams.demo.tracking import Tracker
from beliefstream.streams.local.broker import GuardedProcess
from beliefstream.streams.settings import Settings

WAITING = "waiting for the worker to load its network and join its group"
LEAD = 2.0  # seconds from making the schedule to its start


@dataclass(frozen=True)
class Options:
    """Options of the command; `streams.cli.services.demo` describes them."""

    speed: float
    entities: int
    duration: float | None
    picture: Path | None
    page: bool = True


class DemoSession:
    """One run, as a context manager that removes everything except the worker's log."""

    def __init__(self, options: Options, settings: Settings, console: Console) -> None:
        self._options, self._settings, self._console = options, settings, console
        self._folder = Path(tempfile.mkdtemp(prefix="beliefstream-demo-"))
        self._stack = ExitStack()
        self._stack.callback(self._tidy)

    def __enter__(self) -> DemoSession:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, background: Background | None = None) -> None:
        """Run the demo; with `background`, keep broker and worker running at the end and wait.

        Raises:
            DemonstrationError: a process of the demo failed; the message says which.
            BrokerError: the embedded broker is not installed or does not start.
            TopicError: the topics cannot be created.
            RecordingUnavailable: the package with the recording is not installed.
        """
        # finds errors in the scenario before any process starts
        rehearsal = schedule_of(self._scenario(time.time()))
        services = self._stack.enter_context(
            DemoServices(self._settings, self._folder, self._say, self._options.page)
        )
        self._prepare(services, rehearsal)
        scenario = self._scenario(time.time() + LEAD)
        schedule = schedule_of(scenario)
        tracker = Tracker(schedule)
        self._announce(schedule)
        with ExitStack() as threads:
            stream = Stream(services, scenario, schedule, tracker, self._console)
            threads.callback(stream.stop)
            baselines = self._start_baselines(scenario)
            worker = stream.run()
        figures = tracker.figures(recent=None)
        if background is None:
            services.close()  # leaves the processor to the comparison
        from beliefstream.streams.demo.baselines import names  # loads torch, which the worker does meanwhile

        answers = wait_for_baselines(baselines, self._folder, self._console)
        self._say("scoring  the posteriors against the truth")
        missing = [name for name in names() if name not in answers]
        result = Result(schedule, tracker, figures, worker, compare_all(schedule, tracker, answers), missing)
        print_report(result, self._console)
        self._paint(result)
        if background is not None:
            self._print_addresses(services)
            background.leave()

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _scenario(self, start: float) -> Scenario:
        return Scenario(self._options.speed, self._options.entities, start, self._options.duration)

    def _prepare(self, services: DemoServices, schedule: Schedule) -> None:
        """Define the models and sensors and wait for the worker."""
        parts = schedule.parts
        # the times of messages are never ahead of the clock, so the models can check them
        models = [part.model.model_copy(update={"live_time": True}) for part in parts]
        sensors = {sensor.sensor: sensor for part in parts for sensor in part.sensors}  # drones share theirs
        services.define(models, list(sensors.values()))
        begun = time.monotonic()
        with self._console.status(WAITING) as status:
            told = ""

            def waiting(news: str) -> None:
                nonlocal told
                if news != told:
                    told = news
                    status.update(f"{WAITING}: {news}")
                    if not self._console.is_terminal:
                        self._say(f"worker   {news}")

            services.wait_until_ready(waiting)
        self._say(f"ready    after {time.monotonic() - begun:.1f} s")

    def _announce(self, schedule: Schedule) -> None:
        ranges, speed = len(schedule.recording.observations), self._options.speed
        self._say(
            f"sending  {ranges} ranges of a lawn mower ({schedule.recording.name}) at {speed:g} times real time, and "
            f"a simulated fleet of {len(schedule.fleet.entities)}, a crate and {len(schedule.drones)} drones, for "
            f"{schedule.duration:.0f} s"
        )

    def _start_baselines(self, scenario: Scenario) -> GuardedProcess:
        """Start the baselines, which use idle processor time only."""
        command = [sys.executable, "-m", "beliefstream.streams.demo.baselines", scenario.to_json()]
        output = (self._folder / "baselines.log").open("a+b")
        process = GuardedProcess([*command, str(self._folder)], 1.0, output)
        self._stack.callback(process.stop, 1.0)
        return process

    def _paint(self, result: Result) -> None:
        if self._options.picture is not None:
            from beliefstream.streams.demo.picture import paint

            paint(result, self._options.picture)
            self._say(f"picture  {self._options.picture}")

    def _print_addresses(self, services: DemoServices) -> None:
        servers = services.bootstrap_servers
        self._console.print()
        self._say(f"running: broker {servers}, worker {services.web_address} (/healthz /readyz /metrics)")
        if services.page_address:
            self._say(f"  see:   {services.page_address}")
        self._say(f"  show:  beliefstream posteriors --brokers {servers}")
        self._say(f"  stop:  kill {os.getpid()}" if hasattr(os, "fork") else "  stop:  Ctrl-C")

    def _tidy(self) -> None:
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        for path in self._folder.glob("baselines.*"):
            path.unlink(missing_ok=True)
