"""`beliefstream broker`."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from beliefstream.streams.cli.setup import CommandError, settings_for

CHECK_INTERVAL = 0.5  # seconds between checks that the broker runs


def broker(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port to listen on; another one if it is in use, 0 for any")
    ] = 9092,
    host: Annotated[
        str,
        typer.Option(
            help="address to listen on; 0.0.0.0 for all, so that others on the network reach it, without a password"
        ),
    ] = "127.0.0.1",
) -> None:
    """Run the embedded broker until Ctrl-C or SIGTERM; its records are gone when it stops.

    Example: beliefstream broker --host 0.0.0.0 --port 9092
    """
    import logging

    import structlog

    from beliefstream.streams.local.broker import EmbeddedBroker

    settings_for()
    # the port in use is reported below
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with EmbeddedBroker(port, host) as running:
        if running.port_changed:
            print(f"port {port} is taken, another one is used", flush=True)
        print(f"broker at {running.bootstrap_servers}", flush=True)
        print(f"  export BELIEFSTREAM_BROKERS={running.bootstrap_servers}", flush=True)
        print("  export BELIEFSTREAM_FETCH_HIGH_WATERMARK=true  # workers need it here", flush=True)
        while not ended.wait(CHECK_INTERVAL):
            if not running.running:
                raise CommandError("the broker ended unexpectedly")
