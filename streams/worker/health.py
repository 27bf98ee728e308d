"""A worker's health: it serves /healthz, /readyz and /metrics, and stops at faults that nothing else would notice."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from beliefstream.streams.definitions.reader import DefinitionsReader
from beliefstream.streams.kafka.aiokafka_clients import fault_of
from beliefstream.streams.kafka.faust.connections import clients
from beliefstream.streams.kafka.faust.consumer import TOPIC_CHANGED
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.monitoring import logs, metrics
from beliefstream.streams.monitoring.bearer import CHALLENGE, may_read
from beliefstream.streams.worker.batch import ANNOUNCER
from beliefstream.streams.worker.fusion import Fusion

log = structlog.get_logger()
CHECK_SECONDS = 5.0


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


def add_checks(app: faust.App, reader: DefinitionsReader) -> None:
    """Look every few seconds at connections and topics of definitions, and log what is counted."""

    @app.timer(CHECK_SECONDS)  # type: ignore[untyped-decorator]
    async def check_connections() -> None:
        logs.write_repeated()
        for client in (*clients(app), *reader.clients):
            if fault := fault_of(client):
                log.error("a connection no longer refreshes its metadata, the worker stops", fault=fault)
                os._exit(70)

    @app.timer(CHECK_SECONDS)  # type: ignore[untyped-decorator]
    async def check_definitions() -> None:
        with suppress(KafkaError, OSError):  # no broker answers: try again next time
            if found := await reader.changes():
                log.error(TOPIC_CHANGED, changes=found)
                os._exit(70)

    @app.timer(CHECK_SECONDS)  # type: ignore[untyped-decorator]
    async def count_dead_letters() -> None:
        ANNOUNCER.log_counts()

    async def count_last_dead_letters(*_: Any, **__: Any) -> None:
        ANNOUNCER.flush()

    app.on_before_shutdown.connect(count_last_dead_letters, weak=False)


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
