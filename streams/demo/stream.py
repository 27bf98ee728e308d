"""The middle of the demo: sends the script and shows the results."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue

from rich.console import Console

from beliefstream.streams.demo.scenario import BAD_MESSAGES_AT, Cue, Scenario, Script
from beliefstream.streams.demo.sender import Feed
from beliefstream.streams.demo.services import DemonstrationError, DemoServices, WorkerFigures
from beliefstream.streams.demo.tracking import PosteriorListener, Tracker
from beliefstream.streams.demo.view import View

SILENCE = 60.0  # seconds without a posterior after which the missing ones are given up
FIGURES_EVERY = 1.0  # seconds
TICK = 0.1  # seconds


class Stream:
    """Sends and watches; `stop` ends the threads."""

    def __init__(
        self, services: DemoServices, scenario: Scenario, script: Script, tracker: Tracker, console: Console
    ) -> None:
        self._services, self._script, self._tracker, self._console = services, script, tracker, console
        self._notes: SimpleQueue[str] = SimpleQueue()
        self._listener = PosteriorListener(services.bootstrap_servers, tracker)
        self._feed = Feed(services.bootstrap_servers, script.cues, scenario.start, self._sent)
        self._worker = WorkerFigures()
        self._next_figures = 0.0
        self._progress = (0, 0.0)  # observations without a posterior, and since when the number is unchanged
        self._jumped = False

    def run(self) -> WorkerFigures:
        """Return the worker's last figures when every observation has its posterior.

        Raises:
            DemonstrationError: a process has ended, or some posteriors are missing.
        """
        self._tracker.begin()
        self._listener.start()
        self._feed.start()
        with View(self._console, self._script, self._tracker) as view:
            while not self._finished():
                self._check()
                self._show_notes(view)
                view.show(self._read_figures())
                time.sleep(TICK)
            self._show_notes(view)
        return self._worker

    def stop(self) -> None:
        """Stop both threads."""
        self._feed.stop()
        self._listener.stop()

    def _sent(self, cue: Cue, now: float) -> None:
        self._tracker.sent(cue, now)
        if cue.note:
            self._notes.put(cue.note)

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
        if not self._jumped and jump is not None and jump.after:
            self._jumped = True
            moments = (jump.before, jump.stated, jump.after[0])
            spreads = " → ".join(f"{seen.spread:.1f}" for seen in moments)
            errors = " → ".join(f"{seen.error:.1f}" for seen in moments)
            view.note(f"{self._script.gates.entity}: believed error {spreads} m, true error {errors} m")

    def _finished(self) -> bool:
        """Whether every message is sent, and came back as a posterior or a dead letter."""
        if self._feed.is_alive() or self._feed.error is not None:
            return False
        rejected = max(0, self._worker.rejected - len(BAD_MESSAGES_AT))
        missing = self._tracker.missing() - rejected
        if missing <= 0 and self._worker.rejected >= len(BAD_MESSAGES_AT):
            return True
        if missing != self._progress[0]:
            self._progress = (missing, time.monotonic())
        if self._progress[1] and time.monotonic() - self._progress[1] > SILENCE:
            raise self._services.failure(
                f"{missing} of {self._script.observations} observations have no posterior, and the worker has sent "
                f"none for {SILENCE:g} s"
            )
        return False

    def _check(self) -> None:
        self._services.check()
        for name, thread in (("sending", self._feed), ("reading posteriors", self._listener)):
            if thread.error is not None:
                raise DemonstrationError(f"{name} failed: {thread.error}") from thread.error
