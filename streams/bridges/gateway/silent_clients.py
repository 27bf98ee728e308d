"""Connections of the gateway that end if their client is silent.

uvicorn limits the pause between two requests only. A device that loses its network before its first request, or within
its headers, would keep a connection for ever. Fixed upstream when uvicorn has a limit for these too.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

__all__ = ["Connection", "ending_after"]

_Protocol: Any = AutoHTTPProtocol


class Connection(_Protocol):  # type: ignore[misc]
    """A connection that ends if no request begins within `silence` seconds while none is answered."""

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
