"""Prometheus metrics of the gateway, in base units; none has an entity or an address as a label."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
_counter = partial(Counter, registry=REGISTRY)
_gauge = partial(Gauge, registry=REGISTRY)
_histogram = partial(Histogram, registry=REGISTRY)
ProcessCollector(registry=REGISTRY)

REQUESTS = _counter(
    "beliefstream_gateway_requests",
    "Requests answered, by path and status; unknown paths count as other",
    ["path", "status"],
)
MESSAGES = _counter(
    "beliefstream_gateway_messages",
    "Observations and priors received, by topic and outcome: accepted (Kafka has it), rejected (it cannot be used), "
    "failed (Kafka has not acknowledged it)",
    ["topic", "outcome"],
)
ACKNOWLEDGE_SECONDS = _histogram(
    "beliefstream_gateway_acknowledge_seconds",
    "From a request read to the last of its messages acknowledged by Kafka",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_FLIGHT = _gauge("beliefstream_gateway_in_flight_bytes", "Messages that wait for Kafka to acknowledge them")
BROKER_REACHABLE = _gauge(
    "beliefstream_gateway_broker_reachable",
    "1 while a broker answers and the topics written to have a leader, 0 once one of these has failed for 8 s",
)
ENTITIES = _gauge("beliefstream_gateway_entities", "Entities whose latest posterior is kept")
STREAMS = _gauge("beliefstream_gateway_streams", "Clients that follow posteriors by server-sent events")
DROPPED = _counter(
    "beliefstream_gateway_dropped",
    "Posteriors left out of a stream of server-sent events because its client reads too slowly",
)

# create every series at the start, so that rates begin at 0 and not at the first event
for _topic in ("observations", "priors"):
    for _outcome in ("accepted", "rejected", "failed"):
        MESSAGES.labels(_topic, _outcome)
