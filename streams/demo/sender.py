"""Sends each message of a script when it is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from beliefstream.streams.client import ObservationProducer, PriorPublisher
from beliefstream.streams.demo.scenario import Cue

Sent = Callable[[Cue, float], None]


class Feed(threading.Thread):
    """A thread that sends cues by the clock.

    Args:
        bootstrap_servers: `host:port` of the broker.
        cues: by due time.
        start: when the script begins, seconds since the epoch.
        sent: called with each cue just before it is sent, with `time.monotonic()` then.

    Attributes:
        error: what ended it early, if anything did.
    """

    def __init__(self, bootstrap_servers: str, cues: Sequence[Cue], start: float, sent: Sent) -> None:
        super().__init__(name="feed", daemon=True)
        self.error: BaseException | None = None
        self._servers, self._cues, self._sent = bootstrap_servers, cues, sent
        self._start_time = start
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            with ObservationProducer(self._servers) as producer, PriorPublisher(self._servers) as publisher:
                # the wall clock may be changed: only its value at the start counts
                started = time.monotonic() - (time.time() - self._start_time)
                for cue in self._cues:
                    wait = started + cue.due - time.monotonic()
                    if self._stopping.wait(wait) if wait > 0 else self._stopping.is_set():
                        return
                    self._sent(cue, time.monotonic())
                    _send(cue, producer, publisher)
        except BaseException as error:
            self.error = error

    def stop(self, timeout: float = 5.0) -> None:
        """Stop sending and wait for the thread, at most `timeout` seconds."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)


def _send(cue: Cue, producer: ObservationProducer, publisher: PriorPublisher) -> None:
    if cue.observation is not None:
        producer.send_message(cue.observation)
    elif cue.prior is not None:
        publisher.send_message(cue.prior)
    elif cue.raw is not None:
        producer.publish(*cue.raw)
