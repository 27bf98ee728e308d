"""Runs the gateway until SIGTERM."""

from __future__ import annotations

import asyncio
import socket

from beliefstream.schemas import Observation, Prior
from beliefstream.streams.bridges.bridge import Bridge
from beliefstream.streams.bridges.gateway.app import Gateway
from beliefstream.streams.bridges.gateway.posteriors import Posteriors, Reader
from beliefstream.streams.bridges.serving import serve
from beliefstream.streams.settings import Settings


async def serve_gateway(settings: Settings, listening: socket.socket) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT; answers requests under way first.

    Raises:
        BrokerUnavailable: no broker answers.
        SecurityError: the token cannot be used.
    """
    bridge = Bridge(settings, "gateway", (Observation, Prior), settings.acknowledge_seconds)
    posteriors = Posteriors(settings.gateway_entities)
    reader = Reader(settings, posteriors, asyncio.get_running_loop())
    gateway = Gateway(bridge, posteriors, reader)
    grace = settings.acknowledge_seconds + 2
    async with bridge.connected():
        reader.start()
        try:
            await serve(gateway.app, listening, posteriors.end, silence=settings.gateway_silence, grace=grace)
        finally:
            await asyncio.to_thread(reader.stop)
