"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from typing import Any

import faust
from faust.exceptions import ConsumerNotStarted
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams import metrics
from streams.fusion import Fusion
from streams.registry import DefinitionsReader


def reasons_not_ready(app: faust.App, reader: DefinitionsReader) -> list[str]:
    """What a worker still waits for; empty when it processes observations."""
    waits = []
    if not reader.complete.is_set():
        waits.append("definitions are being read")
    if app.rebalancing:
        waits.append("partitions are being assigned")
    if app.in_recovery or not app.tables.actives_ready:
        waits.append("beliefs are being recovered")
    return waits


def add_pages(app: faust.App, reader: DefinitionsReader, fusion: Fusion) -> None:
    """Serve the pages with the app's own web server."""

    @app.page("/healthz")
    async def healthz(view: Any, request: Any) -> Any:
        return view.json({"ok": True})

    @app.page("/readyz")
    async def readyz(view: Any, request: Any) -> Any:
        waits = reasons_not_ready(app, reader)
        assigned = sorted(f"{tp.topic}-{tp.partition}" for tp in (app.assignor.assigned_actives() or ()))
        body = {"ready": not waits, "waiting_for": waits, "assigned": assigned}
        return view.json(body, status=503 if waits else 200)

    @app.page("/metrics")
    async def page(view: Any, request: Any) -> Any:
        refresh(app, fusion)
        body = generate_latest(metrics.REGISTRY)
        return view.bytes(body, content_type=CONTENT_TYPE_LATEST.split(";")[0])


def refresh(app: faust.App, fusion: Fusion) -> None:
    """Gauges as they are now."""
    store: Any = app.tables["beliefs"].data  # type: ignore[attr-defined]
    if hasattr(store, "_key_partition"):  # only the memory store knows its size at once
        metrics.ENTITIES.set(len(store.data))
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
        done = max(fusion.processed.get(place, 0), consumer._committed_offset.get(place) or 0)
        metrics.CONSUMER_LAG.labels(place.topic, str(place.partition)).set(max(0, end - done))
