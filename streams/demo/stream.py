"""Sends the schedule of the demo, and shows the posteriors as they arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue

from rich.console import Console

from beliefstream.streams.client import ObservationProducer, PosteriorConsumer, PriorPublisher
from beliefstream.streams.demo.scenario import BAD_MESSAGES_AT, Scenario, Schedule, ScheduledMessage
from beliefstream.streams.demo.services import DemonstrationError, DemoServices, WorkerFigures
from beliefstream.streams.demo.tracking import Tracker
from beliefstream.streams.demo.view import View
from beliefstream.streams.kafka.connection import EMBEDDED_FETCH_MS

SILENCE = 60.0  # seconds without a posterior after which the run fails
FIGURES_EVERY = 1.0  # seconds
TICK = 0.1  # seconds
STOP_SECONDS = 5.0  # longest wait for a thread at the end

OnSent = Callable[[ScheduledMessage, float], None]


def send_on_time(
    servers: str,
    messages: Sequence[ScheduledMessage],
    start: float,
    on_sent: OnSent,
    stopping: threading.Event,
) -> None:
    """Send scheduled messages when they are due, until all are sent or `stopping` is set.

    Args:
        servers: `host:port` of the broker.
        messages: messages sorted by the time to send them.
        start: start of the schedule, in seconds since the epoch.
        on_sent: called with each message and `time.monotonic()` just before it is sent.
        stopping: set by another thread.
    """
    with ObservationProducer(servers) as producer, PriorPublisher(servers) as publisher:
        # the wall clock may be adjusted, so it is read only once
        started = time.monotonic() - (time.time() - start)
        for message in messages:
            if stopping.wait(max(0.0, started + message.due - time.monotonic())):
                return
            on_sent(message, time.monotonic())
            _send(message, producer, publisher)


def follow(servers: str, tracker: Tracker, stopping: threading.Event) -> None:
    """Read posteriors into the tracker until `stopping` is set."""
    with PosteriorConsumer(servers, from_beginning=True, fetch_max_wait_ms=EMBEDDED_FETCH_MS) as consumer:
        while not stopping.is_set():
            for posterior in consumer.poll(0.2):
                tracker.received(posterior, time.monotonic())


def _send(message: ScheduledMessage, producer: ObservationProducer, publisher: PriorPublisher) -> None:
    if message.observation is not None:
        producer.send_message(message.observation)
    elif message.prior is not None:
        publisher.send_message(message.prior)
    elif message.raw is not None:
        producer.publish(*message.raw)


class Task(threading.Thread):
    """A thread that keeps the error that has ended it, if any, and does not keep the process."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.error: BaseException | None = None
        self._work = work

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error


class Stream:
    """Sends and reads in two threads, and shows both; `stop` ends the threads."""

    def __init__(
        self,
        services: DemoServices,
        scenario: Scenario,
        schedule: Schedule,
        tracker: Tracker,
        console: Console,
    ) -> None:
        self._services, self._schedule, self._tracker, self._console = services, schedule, tracker, console
        self._notes: SimpleQueue[str] = SimpleQueue()
        self._stopping = threading.Event()
        servers = services.bootstrap_servers
        self._reading = Task("reading posteriors", partial(follow, servers, tracker, self._stopping))
        self._sending = Task(
            "sending",
            partial(send_on_time, servers, schedule.messages, scenario.start, self._sent, self._stopping),
        )
        self._worker = WorkerFigures()
        self._next_figures = 0.0
        # number of observations without a posterior, and the time of its last change
        self._progress = 0, 0.0
        self._jump_shown = False

    def run(self) -> WorkerFigures:
        """Run until every observation has its posterior, and return the worker's last figures.

        Raises:
            DemonstrationError: a process has ended, or posteriors are missing.
        """
        self._tracker.begin()
        self._reading.start()
        self._sending.start()
        with View(self._console, self._schedule, self._tracker) as view:
            while not self._finished():
                self._check()
                self._show_notes(view)
                view.show(self._read_figures())
                time.sleep(TICK)
            self._show_notes(view)
        return self._worker

    def stop(self) -> None:
        """Stop both threads."""
        self._stopping.set()
        for task in (self._sending, self._reading):
            if task.is_alive():
                task.join(STOP_SECONDS)

    def _sent(self, message: ScheduledMessage, now: float) -> None:
        self._tracker.sent(message, now)
        if message.note:
            self._notes.put(message.note)

    def _read_figures(self) -> WorkerFigures | None:
        """Read the worker's figures, at most once a second."""
        if time.monotonic() < self._next_figures:
            return None
        self._next_figures = time.monotonic() + FIGURES_EVERY
        found = self._services.figures()
        self._worker = found or self._worker
        return found

    def _show_notes(self, view: View) -> None:
        while True:
            try:
                view.note(self._notes.get_nowait())
            except Empty:
                break
        jump = self._tracker.jump()
        if not self._jump_shown and jump is not None and jump.after:
            self._jump_shown = True
            moments = (jump.before, jump.stated, jump.after[0])
            spreads = " → ".join(f"{belief.spread:.1f}" for belief in moments)
            errors = " → ".join(f"{belief.error:.1f}" for belief in moments)
            view.note(f"{self._schedule.gates.entity}: believed error {spreads} m, true error {errors} m")

    def _finished(self) -> bool:
        """Whether every message is sent, and has a posterior or a dead letter."""
        if self._sending.is_alive() or self._sending.error is not None:
            return False
        rejected = max(0, self._worker.rejected - len(BAD_MESSAGES_AT))
        missing = self._tracker.missing() - rejected
        if missing <= 0 and self._worker.rejected >= len(BAD_MESSAGES_AT):
            return True
        if missing != self._progress[0]:
            self._progress = (missing, time.monotonic())
        if self._progress[1] and time.monotonic() - self._progress[1] > SILENCE:
            raise self._services.failure(
                f"{missing} of {self._schedule.observations} observations have no posterior, and the worker has sent "
                f"none for {SILENCE:g} s"
            )
        return False

    def _check(self) -> None:
        self._services.check()
        for task in (self._sending, self._reading):
            if task.error is not None:
                raise DemonstrationError(f"{task.name} failed: {task.error}") from task.error
