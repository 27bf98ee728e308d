"""Sends the messages of a schedule on time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from beliefstream.streams.client import ObservationProducer, PriorPublisher
from beliefstream.streams.demo.scenario import ScheduledMessage

OnSent = Callable[[ScheduledMessage, float], None]


class Sender(threading.Thread):
    """A thread that sends scheduled messages on time.

    Args:
        bootstrap_servers: `host:port` of the broker.
        messages: messages sorted by the time to send them.
        start: start of the schedule, in seconds since the epoch.
        on_sent: called with each message and `time.monotonic()` just before it is sent.

    Attributes:
        error: error that ended the thread early, if any.
    """

    def __init__(
        self, bootstrap_servers: str, messages: Sequence[ScheduledMessage], start: float, on_sent: OnSent
    ) -> None:
        super().__init__(name="sender", daemon=True)
        self.error: BaseException | None = None
        self._servers, self._messages, self._on_sent = bootstrap_servers, messages, on_sent
        self._start_time = start
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            with ObservationProducer(self._servers) as producer, PriorPublisher(self._servers) as publisher:
                # the wall clock may be adjusted, so it is read only once
                started = time.monotonic() - (time.time() - self._start_time)
                for message in self._messages:
                    wait = started + message.due - time.monotonic()
                    if self._stopping.wait(wait) if wait > 0 else self._stopping.is_set():
                        return
                    self._on_sent(message, time.monotonic())
                    _send(message, producer, publisher)
        except BaseException as error:
            self.error = error

    def stop(self, timeout: float = 5.0) -> None:
        """Stop sending and wait for the thread, at most `timeout` seconds."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout)


def _send(message: ScheduledMessage, producer: ObservationProducer, publisher: PriorPublisher) -> None:
    if message.observation is not None:
        producer.send_message(message.observation)
    elif message.prior is not None:
        publisher.send_message(message.prior)
    elif message.raw is not None:
        producer.publish(*message.raw)
