"""Opens the port of a command that serves HTTP, before a broker is asked."""

from __future__ import annotations

import socket

from beliefstream.streams.cli.errors import CommandError


def listen(host: str, port: int, backlog: int = 128, option: str = "--port") -> socket.socket:
    """Return a listening socket.

    Raises:
        CommandError: the address cannot be used, for example a port in use; it names the option for another one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise CommandError(f"{host}:{port}: {error.strerror}; {option} is another port") from None
