"""Runs the gateway until SIGTERM."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from beliefstream.streams.bridges.acknowledged import Writer
from beliefstream.streams.bridges.broker_check import BrokerCheck
from beliefstream.streams.bridges.gateway.app import Gateway
from beliefstream.streams.bridges.gateway.posteriors import Posteriors, Reader
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.monitoring import logs
from beliefstream.streams.settings import Settings

SOURCE = "/beliefstream/gateway"  # for the CloudEvents headers
REPEATED_SECONDS = 5

_Protocol: Any = AutoHTTPProtocol


class Connection(_Protocol):  # type: ignore[misc]
    """A connection that ends if no request begins within `silence` seconds while none is answered.

    uvicorn limits the pause between two requests only. A device that loses its network before its first request, or
    within its headers, would keep a connection for ever. Fixed upstream when uvicorn has a limit for these too.
    """

    silence = math.inf
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, fault: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(fault)

    @property
    def _waits(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _watch(self) -> None:
        if not self._waits:
            self._stop_timer()
        elif self._timer is None and self.silence < math.inf:
            self._timer = asyncio.get_running_loop().call_later(self.silence, self._end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if self._waits and not self.transport.is_closing():
            self.transport.close()


def ending_after(silence: float) -> type[Connection]:
    """Connections that end after so many seconds without a request."""
    return type("Connection", (Connection,), {"silence": silence})


class _Server(uvicorn.Server):
    """Ends the streams of posteriors at SIGTERM: uvicorn would wait for their clients to leave."""

    def __init__(self, config: uvicorn.Config, posteriors: Posteriors) -> None:
        super().__init__(config)
        self._posteriors = posteriors

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT; uvicorn's own raises the signal again, and would end the process too early."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *caught: loop.call_soon_threadsafe(self.handle_exit, *caught))
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._posteriors.end()
        super().handle_exit(sig, frame)


async def _write_repeated() -> None:
    logs.write_repeated()


def require_topics(settings: Settings) -> None:
    """Check that the topics written to are there.

    Raises:
        BrokerUnavailable: no broker answers.
        TopicMissing: a topic does not exist.
    """
    for topic in (settings.observations, settings.priors):
        TopicReader(settings.brokers, topic, settings.client_options).close()


async def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT; answers requests under way first.

    Raises:
        BrokerUnavailable: no broker answers.
        SecurityError: the token cannot be used.
    """
    loop, writer = asyncio.get_running_loop(), Writer(settings, SOURCE)
    await writer.start()

    def renew_after_fault() -> None:
        if writer.failing and not loop.is_closed():
            asyncio.run_coroutine_threadsafe(writer.renew(), loop)

    check = BrokerCheck(settings, (settings.observations, settings.priors), renew_after_fault)
    posteriors = Posteriors(settings.gateway_entities)
    reader = Reader(settings, posteriors, loop)
    gateway = Gateway(settings, writer, check, posteriors, reader)
    check.start()
    reader.start()
    config = uvicorn.Config(
        gateway.app,
        http=ending_after(settings.gateway_silence),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        callback_notify=_write_repeated,
        timeout_notify=REPEATED_SECONDS,
        timeout_graceful_shutdown=int(settings.acknowledge_seconds) + 2,
    )
    try:
        await _Server(config, posteriors).serve([listening])
    finally:
        check.stop()
        await asyncio.to_thread(reader.stop)
        await writer.close()
