"""Prometheus metrics of the MQTT bridge; none has an entity or a topic as a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

RECEIVED = Counter(
    "beliefstream_mqtt_received",
    "Messages that the MQTT broker has delivered; one that it delivers again counts again",
    registry=REGISTRY,
)
PUBLISHED = Counter(
    "beliefstream_mqtt_published", "Observations that Kafka has acknowledged", registry=REGISTRY
)
DEAD_LETTERS = Counter(
    "beliefstream_mqtt_dead_letters",
    "Messages that do not map, whose dead letters Kafka has acknowledged",
    registry=REGISTRY,
)
FAILED = Counter(
    "beliefstream_mqtt_failed",
    "Messages that Kafka has not taken; the MQTT broker delivers those of QoS 1 again",
    registry=REGISTRY,
)
CONNECTED = Gauge(
    "beliefstream_mqtt_connected", "1 while the bridge is connected to the MQTT broker", registry=REGISTRY
)
RECONNECTS = Counter(
    "beliefstream_mqtt_reconnects", "Connections after the first one of the process", registry=REGISTRY
)
ACKNOWLEDGE_SECONDS = Histogram(
    "beliefstream_mqtt_acknowledge_seconds",
    "From a message received to its acknowledgement by Kafka",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
