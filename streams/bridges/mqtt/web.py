"""What a bridge shows by HTTP: /healthz, /readyz and /metrics, as a worker does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from pydantic import SecretStr

from beliefstream.streams.monitoring.bearer import CHALLENGE, may_read

REGISTRY = CollectorRegistry()
_counter = partial(Counter, registry=REGISTRY)
_gauge = partial(Gauge, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY)
RECEIVED = _counter(
    "beliefstream_mqtt_received",
    "Messages that the MQTT broker has delivered; one that it delivers again counts again",
)
PUBLISHED = _counter("beliefstream_mqtt_published", "Observations that Kafka has acknowledged")
DEAD_LETTERS = _counter(
    "beliefstream_mqtt_dead_letters",
    "Messages that do not fit the mapping, whose dead letters Kafka has acknowledged",
)
FAILED = _counter(
    "beliefstream_mqtt_failed",
    "Messages that Kafka has not accepted; the MQTT broker delivers those of QoS 1 again",
)
CONNECTED = _gauge("beliefstream_mqtt_connected", "1 while the bridge is connected to the MQTT broker")
RECONNECTS = _counter("beliefstream_mqtt_reconnects", "Connections after the first one of the process")
ACKNOWLEDGE_SECONDS = _histogram(
    "beliefstream_mqtt_acknowledge_seconds",
    "From a message received to its acknowledgement by Kafka",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
SECONDS = 10  # that a client may be silent

ProcessCollector(registry=REGISTRY)


@contextmanager
def pages(
    listening: socket.socket,
    registry: CollectorRegistry,
    token: SecretStr | None,
    lacking: Callable[[], Iterable[str]],
) -> Iterator[None]:
    """Serve the pages on a bound socket in threads while the context lasts, and close it then.

    /metrics asks for the token, if there is one. The bridge is ready while it is `lacking` nothing.
    """

    class Pages(BaseHTTPRequestHandler):
        timeout = SECONDS

        def do_GET(self) -> None:
            if self.path == "/healthz":
                self._answer(200, {"ok": True})
            elif self.path == "/readyz":
                waits = list(lacking())
                self._answer(503 if waits else 200, {"ready": not waits, "waiting_for": waits})
            elif self.path != "/metrics":
                self._answer(404, {"error": f"{self.path[:128]}: Not Found"})
            elif may_read(self.headers.get("Authorization"), token):
                self._write(200, generate_latest(registry), {"Content-Type": CONTENT_TYPE_LATEST})
            else:
                self._answer(401, {"error": "a bearer token is needed"}, CHALLENGE)

        def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
            fixed = {"Content-Type": "application/json"}
            self._write(status, json.dumps(content).encode(), fixed | (headers or {}))

        def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    address = listening.getsockname()[:2]
    with ThreadingHTTPServer(address, Pages, bind_and_activate=False) as server:
        server.daemon_threads = True
        server.socket.close()
        server.socket = listening
        thread = threading.Thread(target=server.serve_forever, name="beliefstream-pages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
