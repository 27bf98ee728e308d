"""Builds a worker's Faust application from its settings."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import faust
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.types import TP

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Reason
from beliefstream.streams.definitions import measurement_modules
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.aiokafka_clients import fault_of
from beliefstream.streams.kafka.faust.app_connections import clients, producer_client, started_producer
from beliefstream.streams.kafka.faust.connections import use_safe_connections
from beliefstream.streams.kafka.faust.consumer import (
    TOPIC_CHANGED,
    SafeConsumer,
    use_fetch_high_watermark,
    use_safe_consumer,
)
from beliefstream.streams.kafka.faust.recovery import SafeTableManager
from beliefstream.streams.kafka.producing import send_all
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.kafka.topic_states import TopicState, topic_states
from beliefstream.streams.monitoring import logs, metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.belief_table import BeliefTable
from beliefstream.streams.state.expiry import Expiry
from beliefstream.streams.state.fencing import Fencing
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.table_recovery import BeliefTableManager
from beliefstream.streams.worker.batch_validation import BatchValidator
from beliefstream.streams.worker.dead_letters import ANNOUNCER, Example, dead_letter
from beliefstream.streams.worker.fair_scheduling import FairScheduler
from beliefstream.streams.worker.fusion import Fusion
from beliefstream.streams.worker.health import add_pages, reasons_not_ready
from beliefstream.streams.worker.misplaced_records import Placement
from beliefstream.streams.worker.resets import Resets
from beliefstream.streams.worker.shutdown import run_or_stop
from beliefstream.streams.worker.validation import Validator
from beliefstream.streams.worker.watchdog import BacklogReader, StallWatchdog, WorkerProbe

log = structlog.get_logger()
CHECK_SECONDS = 5.0
LARGEST_RECORD = 64 * 1024 * 1024  # bytes; a dead letter is as large as its source record


def create_app(settings: Settings, updater: Updater, reachability: Reachability | None = None) -> faust.App:
    """Build a worker's application without starting it.

    `reachability` is updated while the application runs.

    Raises ValueError if a module in `settings.measurements` cannot be imported.
    """
    measurement_modules.load(settings.measurements)
    use_safe_connections()
    app = faust.App(
        settings.application,
        broker=[f"kafka://{broker}" for broker in settings.brokers.split(",")],
        broker_credentials=settings.security.credentials(),
        TableManager=BeliefTableManager,
        Table=BeliefTable,
        store=settings.store,
        datadir=str(settings.data_directory),
        topic_partitions=settings.partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_buffer_maxsize=16384,
        stream_wait_empty=True,
        producer_max_batch_size=262144,
        producer_max_request_size=LARGEST_RECORD,
        broker_session_timeout=settings.session_timeout,
        broker_rebalance_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        broker_commit_interval=1.0,
        web_bind=settings.web_host,
        web_port=settings.web_port,
        # of Faust's own pages, keep only "/", which answers OK
        web_tables_enabled=False,
        web_router_enabled=False,
        web_graph_enabled=False,
        web_stats_enabled=False,
        worker_redirect_stdouts=False,
    )

    async def states(names: Collection[str]) -> dict[str, TopicState]:
        return await topic_states((await started_producer(app)).client, names)

    use = use_fetch_high_watermark if settings.fetch_high_watermark else use_safe_consumer
    use(app, settings.names.priors, states)
    metrics.begin((settings.names.observations, settings.names.priors))
    _add_agent(app, settings, updater, reachability or Reachability(settings.names))
    return app


def _guard(
    app: faust.App, settings: Settings, fusion: Fusion, is_blocked: Callable[[], bool]
) -> StallWatchdog:
    """Build the watchdog for partitions that make no progress."""
    sources = (settings.names.observations, settings.names.priors)

    def processed_offsets() -> dict[TP, int]:
        consumer = cast(SafeConsumer, app.consumer)
        return {
            place: max(fusion.processed_offsets.get(place, 0), consumer.committed.get(place, 0))
            for place in consumer.assignment()
            if place.topic in sources
        }

    worker = WorkerProbe(
        processed_offsets,
        lambda: fusion.is_busy,
        lambda: bool(cast(SafeConsumer, app.consumer).unacked),
        is_blocked,
    )
    return StallWatchdog(
        settings.stall_seconds, worker, BacklogReader(settings.brokers, settings.client_options)
    )


def _add_agent(app: faust.App, settings: Settings, updater: Updater, reachability: Reachability) -> None:
    names = settings.names
    raw: dict[str, Any] = {
        "key_type": bytes,
        "value_type": bytes,
        "key_serializer": "raw",
        "value_serializer": "raw",
        "partitions": settings.partitions,
    }
    source = app.topic(names.observations, names.priors, **raw)

    async def changelog_id() -> str:
        asked = topic_states((await started_producer(app)).client, [names.beliefs_changelog])
        found = await run_or_stop(asked, "the changelog's id cannot be read, the worker stops")
        # the changelog's readers notice if it is missing
        return found[names.beliefs_changelog].id if found else ""

    on_disk = {"directory": settings.belief_directory, "topic_id": changelog_id}
    table: Any = app.Table(
        "beliefs", key_type=bytes, value_type=bytes, partitions=settings.partitions, options=on_disk
    )
    producer = partial(started_producer, app)

    async def reject(record: ConsumerRecord, reason: Reason, detail: str) -> None:
        log.warning("a definition cannot be used", topic=record.topic, key=record.key, detail=detail)
        place = (record.topic, record.partition, record.offset)
        letter = dead_letter(names.dead_letters, reason, detail, place, record.key, record.value)
        await send_all(await producer(), [letter])
        metrics.DEAD_LETTERS.labels(reason.value).inc()
        ANNOUNCER.note(reason, Example(place, record.key, detail))

    fencing = Fencing(settings.application, names.beliefs_changelog, producer)

    async def fence(partitions: Collection[int]) -> None:
        await run_or_stop(fencing.take(partitions), "partitions cannot be taken over, the worker stops")

    def committed(place: TP) -> int:
        return cast(SafeConsumer, app.consumer).committed.get(place, 0)

    lineage = Lineage(names, table.store, fencing, producer, committed)

    async def examine(consumer: Any, partitions: Collection[int]) -> bool:
        fusion.processed_offsets.clear()  # reading restarts at the committed offsets
        held = lineage.examine(consumer, partitions)
        return await run_or_stop(held, "beliefs cannot be compared with their source, the worker stops")

    manager = cast(SafeTableManager, app.tables)
    manager.fence, manager.examine = fence, examine
    definitions = Definitions(names.sensors, names.models, settings.maximum_message_bytes)
    reader = DefinitionsReader(
        definitions, (names.sensors, names.models), settings.brokers, reject, settings.client_options
    )
    expiry = Expiry(names, definitions, table.store, committed)
    validator = Validator(
        definitions,
        settings.maximum_message_bytes,
        settings.future_tolerance,
        settings.event_tolerance,
    )

    async def ends(places: Collection[TP]) -> Mapping[TP, int]:
        found: Mapping[TP, int] = await app.consumer.highwaters(*places)
        return found

    placement = Placement(names, settings.partitions, settings.refuse_misplaced)
    resets = Resets(names, settings.application, definitions, lineage, ends)
    checks_event_time = settings.event_tolerance < math.inf
    fusion = Fusion(
        names,
        settings.application,
        BatchValidator(names, validator, definitions, table.store, placement, resets, checks_event_time),
        definitions,
        reader,
        updater,
        table.store,
        producer,
        fencing,
        expiry,
        lineage,
        placement,
        resets,
        settings.history,
    )

    @app.task  # type: ignore[untyped-decorator]
    async def read_definitions() -> None:
        await run_or_stop(reader.start(), "definitions cannot be read")

    @app.task  # type: ignore[untyped-decorator]
    async def watch_brokers() -> None:
        await reachability.watch(partial(producer_client, app))

    stalls = _guard(
        app, settings, fusion, lambda: app.should_stop or bool(reasons_not_ready(app, reader, reachability))
    )

    @app.task  # type: ignore[untyped-decorator]
    async def watch_partitions() -> None:
        await stalls.watch()

    @app.timer(CHECK_SECONDS)  # type: ignore[untyped-decorator]
    async def check_connections() -> None:
        logs.write_repeated()
        for client in (*clients(app), reader.client):
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

    scheduler = FairScheduler(
        settings.batch, lambda message: cast(SafeConsumer, app.consumer).release(message)
    )
    app.flow_control.manage_queue(cast(Any, scheduler))

    @app.agent(source, name="fuse")
    async def fuse(stream: faust.StreamT[bytes]) -> None:
        async for events in stream.noack_take(settings.batch, within=settings.batch_seconds):  # type: ignore[attr-defined]
            batch = scheduler.take(events)
            while batch:
                # an exception in take() would acknowledge the batch: stop at once, so that it is delivered again
                await run_or_stop(fusion.process(batch), "a batch failed, the worker stops")
                done = scheduler.done(batch)
                for event in done:
                    await stream.ack(event)
                fusion.acknowledged(done)
                # if more messages have arrived, let the waiting ones share the next turn with them
                alone = scheduler.full or cast(Any, stream.channel).queue.empty()
                batch = scheduler.take() if alone else []

    metrics.BUILD.info(
        {
            "version": version("beliefstream"),
            "device": str(updater.device),
            "model": str(updater.network.describe()),
            "weights": settings.weights,
        }
    )
    add_pages(app, reader, fusion, reachability, settings.token, stalls.metrics_read.set)
