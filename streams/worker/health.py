"""Serves /healthz, /readyz and /metrics; /metrics may need a bearer token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from beliefstream.streams.definitions.reader import DefinitionsReader
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.monitoring.bearer import CHALLENGE, may_read
from beliefstream.streams.worker.fusion import Fusion


def reasons_not_ready(app: faust.App, reader: DefinitionsReader, reachability: Reachability) -> list[str]:
    """Return what a worker still waits for; empty when it processes observations."""
    waits = []
    if (fault := reachability.fault) is not None:
        waits.append(fault)
    if not reader.complete.is_set():
        waits.append("definitions are being read")
    if app.rebalancing:
        waits.append("partitions are being assigned")
    if app.in_recovery or not app.tables.actives_ready:
        waits.append("beliefs are being recovered")
    return waits


def add_pages(
    app: faust.App,
    reader: DefinitionsReader,
    fusion: Fusion,
    reachability: Reachability,
    token: SecretStr | None = None,
    metrics_read: Callable[[], None] = lambda: None,
) -> None:
    """Add the pages to the app's web server.

    Args:
        token: required to read /metrics; None for none.
        metrics_read: called after /metrics has been read.
    """

    @app.page("/healthz")
    async def healthz(view: Any, request: Any) -> Any:
        return view.json({"ok": True})

    @app.page("/readyz")
    async def readyz(view: Any, request: Any) -> Any:
        waits = reasons_not_ready(app, reader, reachability)
        assigned = sorted(f"{tp.topic}-{tp.partition}" for tp in (app.assignor.assigned_actives() or ()))
        body = {"ready": not waits, "waiting_for": waits, "assigned": assigned}
        return view.json(body, status=503 if waits else 200)

    @app.page("/metrics")
    async def page(view: Any, request: Any) -> Any:
        if not may_read(request.headers.get("Authorization"), token):
            return view.json({"error": "a bearer token is needed"}, status=401, headers=CHALLENGE)
        refresh(app, reader, fusion, reachability)
        body = generate_latest(metrics.REGISTRY)
        metrics_read()
        return view.bytes(body, content_type=CONTENT_TYPE_LATEST.split(";")[0])


def refresh(app: faust.App, reader: DefinitionsReader, fusion: Fusion, reachability: Reachability) -> None:
    """Update the gauges; a worker that has not fetched yet reports no lag."""
    metrics.READY.set(not reasons_not_ready(app, reader, reachability))
    metrics.BROKER_REACHABLE.set(reachability.fault is None)
    fusion.show()
    metrics.CONSUMER_LAG.clear()
    consumer: Any = app.consumer
    try:
        assigned = consumer.assignment()
    except ConsumerNotStarted:
        return
    for place in assigned:
        end = consumer.highwater(place)
        if end is None or place.topic in app.tables.changelog_topics:  # None: nothing was fetched yet
            continue
        lag = max(0, end - fusion.processed(place))
        metrics.CONSUMER_LAG.labels(place.topic, str(place.partition)).set(lag)
