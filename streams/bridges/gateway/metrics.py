"""Prometheus metrics that only the gateway has."""

from __future__ import annotations

from beliefstream.streams.bridges.metrics import REGISTRY as REGISTRY, counter, gauge

REQUESTS = counter(
    "beliefstream_gateway_requests",
    "Requests answered, by path and status; unknown paths count as other",
    ["path", "status"],
)
ENTITIES = gauge("beliefstream_gateway_entities", "Entities whose latest posterior is kept")
STREAMS = gauge("beliefstream_gateway_streams", "Clients that follow posteriors by server-sent events")
DROPPED = counter(
    "beliefstream_gateway_dropped",
    "Posteriors left out of a stream of server-sent events because its client reads too slowly",
)
