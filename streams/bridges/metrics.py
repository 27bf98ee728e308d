"""Prometheus metrics that every bridge has, in base units; none has an entity or an address as a label."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
counter, gauge = partial(Counter, registry=REGISTRY), partial(Gauge, registry=REGISTRY)
ProcessCollector(registry=REGISTRY)

_RECEIVED = counter(
    "beliefstream_bridge_received",
    "Messages that came to a bridge; one that comes again counts again",
    ["bridge"],
)
_MESSAGES = counter(
    "beliefstream_bridge_messages",
    "Messages by topic and outcome: accepted (Kafka has it), rejected (it cannot be used; the MQTT bridge counts it "
    "once Kafka has its dead letter), failed (Kafka has not acknowledged it)",
    ["bridge", "topic", "outcome"],
)
_ACKNOWLEDGE_SECONDS = Histogram(
    "beliefstream_bridge_acknowledge_seconds",
    "From messages that came together, such as those of a request, to Kafka's acknowledgement of the last of them",
    ["bridge"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
_IN_FLIGHT = gauge(
    "beliefstream_bridge_in_flight_bytes", "Messages that wait for Kafka to acknowledge them", ["bridge"]
)
_BROKER_REACHABLE = gauge(
    "beliefstream_bridge_broker_reachable",
    "1 while a broker answers and the topics written to have a leader, 0 once one of these has failed for 8 s",
    ["bridge"],
)
_CONNECTED = gauge(
    "beliefstream_bridge_connected",
    "1 while the bridge is connected to its source, such as an MQTT broker",
    ["bridge"],
)
_RECONNECTS = counter(
    "beliefstream_bridge_reconnects",
    "Connections to the source after the first one of the process",
    ["bridge"],
)


class BridgeMetrics:
    """The metrics of one bridge; every series is there from the start, so that rates begin at 0."""

    def __init__(self, bridge: str, topics: Iterable[str]) -> None:
        self.received = _RECEIVED.labels(bridge)
        self.acknowledge_seconds = _ACKNOWLEDGE_SECONDS.labels(bridge)
        self.in_flight = _IN_FLIGHT.labels(bridge)
        self.broker_reachable = _BROKER_REACHABLE.labels(bridge)
        self._bridge = bridge
        for topic in topics:
            for outcome in ("accepted", "rejected", "failed"):
                _MESSAGES.labels(bridge, topic, outcome)

    def connected(self, is_connected: bool, again: bool = False) -> None:
        """Show whether the bridge is connected to its source, and count a connection that is not the first."""
        _CONNECTED.labels(self._bridge).set(is_connected)
        _RECONNECTS.labels(self._bridge).inc(is_connected and again)

    def count(self, topic: str, outcome: str, number: int) -> None:
        """Count messages with this outcome."""
        _MESSAGES.labels(self._bridge, topic, outcome).inc(number)
