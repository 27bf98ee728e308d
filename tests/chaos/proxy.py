"""A TCP proxy that can be cut: every connection breaks, and none is made until it is mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

CHUNK = 65536


class Proxy:
    """Between clients and one port of this machine.

    Args:
        port: where it listens.
        target: the port it passes everything on to.
    """

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        self._cuts = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Breaks all connections, in the middle of whatever they carry."""
        with self._lock:
            self._cut = True
            self._cuts += 1
            broken, self._open = self._open, set()
        for connection in broken:
            _close(connection)

    def mend(self) -> None:
        with self._lock:
            self._cut = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                cut, cuts = self._cut, self._cuts
            if cut:
                _close(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                server.settimeout(None)
            except OSError:
                _close(client)
                continue
            self._connect(client, server, cuts)

    def _connect(self, client: socket.socket, server: socket.socket, cuts: int) -> None:
        """Unless all has been cut since the client was accepted."""
        with self._lock:
            if whole := cuts == self._cuts:
                self._open |= {client, server}
        if not whole:
            _close(client)
            _close(server)
            return
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                sink.sendall(data)
        for each in (source, sink):
            with self._lock:
                self._open.discard(each)
            _close(each)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
