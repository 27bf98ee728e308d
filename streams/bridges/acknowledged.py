"""Writes messages to Kafka from an event loop, and says of each whether Kafka has it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from kafka.errors import KafkaError

from beliefstream.schemas import Observation, Prior
from beliefstream.streams.bridges.broker_check import RECONNECT
from beliefstream.streams.client import BrokerUnavailable, ObservationProducer, Place, PriorPublisher
from beliefstream.streams.settings import Settings

__all__ = ["NotAcknowledged", "Writer"]

MOST_IN_FLIGHT = 64 * 1024 * 1024  # bytes of messages that Kafka has not acknowledged; more are refused
SLICE = 100  # messages handed over before other requests have a turn
# The event loop must not wait: a topic whose partitions are not known any more is a fault of that moment.
BLOCK_MILLISECONDS = 50
LINGER_MILLISECONDS = 5  # messages of several requests that arrive together travel together


class NotAcknowledged(ConnectionError):
    """Kafka has not acknowledged a message in time, or cannot be reached; it may have it all the same."""


class Writer:
    """Sends observations and priors, and waits until Kafka has acknowledged them.

    Its methods are called from one event loop, `renew` from any thread.

    Args:
        settings: brokers, topics, security, and how long to wait.
        source: the sender, for the CloudEvents headers.

    Raises:
        BrokerUnavailable: no broker answers.
        TopicMissing: a topic does not exist.

    Attributes:
        in_flight: bytes of messages that Kafka has not acknowledged.
        failing: whether the last outcome was a failure.
    """

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings, self._source = settings, source
        self._seconds = settings.acknowledge_seconds
        self._lock = threading.Lock()
        self.in_flight = 0
        self.failing = False
        self._observations, self._priors = self._open()

    async def write(self, messages: Sequence[Observation | Prior]) -> list[Place | Exception]:
        """Send the messages in order; returns the place of each, or why Kafka may not have it."""
        pending = _Pending(len(messages))
        for position, message in enumerate(messages):
            if position % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            try:
                future, size = self._send(message)
            except (KafkaError, OSError) as error:
                self.failing = True
                pending.fail_from(position, _explained(error))
                break
            future.add_done_callback(partial(self._done, pending, position, size))
        return await pending.wait(self._seconds + 1)

    def renew(self) -> None:
        """Replace the connections; messages under way are still sent by the former ones, if these can."""
        former = self._observations, self._priors
        self._observations, self._priors = self._open()
        self.failing = False
        for publisher in former:
            publisher.close(self._seconds)

    def close(self) -> None:
        """Close the connections, after what is under way."""
        for publisher in (self._observations, self._priors):
            publisher.close(self._seconds)

    def _open(self) -> tuple[ObservationProducer, PriorPublisher]:
        settings, milliseconds = self._settings, int(self._seconds * 1000)  # kafka-python needs whole ones
        options: dict[str, Any] = {
            "delivery_timeout_ms": milliseconds,
            "request_timeout_ms": milliseconds // 2,
            "max_block_ms": BLOCK_MILLISECONDS,
            "linger_ms": LINGER_MILLISECONDS,
            "batch_size": 262144,
            **RECONNECT,
            **settings.client_options,
        }
        observations = ObservationProducer(
            settings.brokers, settings.observations, source=self._source, **options
        )
        try:
            return observations, PriorPublisher(
                settings.brokers, settings.priors, source=self._source, **options
            )
        except BaseException:
            observations.close(0)
            raise

    def _send(self, message: Observation | Prior) -> tuple[Future[Place], int]:
        if self.in_flight > MOST_IN_FLIGHT:
            raise NotAcknowledged("too much waits for Kafka to acknowledge it")
        if isinstance(message, Observation):
            future = self._observations.send_message(message)
        else:
            future = self._priors.send_message(message)
        size = len(message.to_json())
        with self._lock:
            self.in_flight += size
        return future, size

    def _done(self, pending: _Pending, position: int, size: int, future: Future[Place]) -> None:
        """Take note of an outcome, in Kafka's thread."""
        error = future.exception()
        self.failing = error is not None
        with self._lock:
            self.in_flight -= size
        pending.settle(position, future.result() if error is None else _explained(error))


class _Pending:
    """What becomes of the messages of one request."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._all = self._loop.create_future()
        self._results: list[Place | Exception | None] = [None] * count
        self._left, self._lock = count, threading.Lock()

    def settle(self, position: int, result: Place | Exception) -> None:
        """Note the outcome of one message; called from any thread."""
        self._results[position] = result
        self._finish(1)

    def fail_from(self, position: int, error: Exception) -> None:
        """Note that this message and all after it were not sent."""
        count = len(self._results) - position
        self._results[position:] = [error] * count
        self._finish(count)

    async def wait(self, seconds: float) -> list[Place | Exception]:
        """Return all outcomes, after waiting for them at most so long."""
        limit = self._loop.call_later(seconds, self._wake)  # `wait_for` would start a task
        try:
            await self._all
        finally:
            limit.cancel()
        late = NotAcknowledged(f"Kafka has not acknowledged it within {seconds:g} s")
        return [late if each is None else each for each in self._results]

    def _finish(self, count: int) -> None:
        with self._lock:
            self._left -= count
            if self._left:
                return
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self._all.done():
            self._all.set_result(None)


def _explained(error: BaseException) -> Exception:
    """The error of Kafka's client as one that says what it means here."""
    if isinstance(error, (NotAcknowledged, BrokerUnavailable)):
        return error
    return NotAcknowledged(f"{type(error).__name__}: {error}")
