"""Builds a worker's Faust application from its settings."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import faust
import structlog
import torch
from aiokafka.errors import KafkaError

from beliefstream.inference.update.updater import Updater
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
from beliefstream.streams.kafka.faust.stream_batches import acknowledge, batches
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.kafka.topic_states import TopicState, topic_states
from beliefstream.streams.monitoring import logs, metrics
from beliefstream.streams.monitoring.machine import MACHINE
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.recovery import BeliefTableManager
from beliefstream.streams.state.stores import BeliefStore, BeliefTable
from beliefstream.streams.worker import garbage_collection
from beliefstream.streams.worker.assembly import (
    belief_table,
    build_fusion,
    examine_before_reading,
    ownership,
    reject_definition,
    stall_watchdog,
)
from beliefstream.streams.worker.dead_letters import ANNOUNCER
from beliefstream.streams.worker.fair_scheduling import FairScheduler
from beliefstream.streams.worker.fusion import Fusion
from beliefstream.streams.worker.health import add_pages, reasons_not_ready
from beliefstream.streams.worker.shutdown import run_or_stop
from beliefstream.streams.worker.watchdog import StallWatchdog

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
    _build(app, settings, updater, reachability or Reachability(settings.names))
    return app


def _build(app: faust.App, settings: Settings, updater: Updater, reachability: Reachability) -> None:
    """Connect the parts of the worker, and add its tasks, its agent and its pages to the application."""
    producer = partial(started_producer, app)
    store: BeliefStore = belief_table(app, settings).store
    fencing, lineage = ownership(app, settings, store, producer)
    definitions = Definitions(settings.names.sensors, settings.names.models, settings.maximum_message_bytes)
    reader = DefinitionsReader(
        definitions,
        (settings.names.sensors, settings.names.models),
        settings.brokers,
        partial(reject_definition, settings.names.dead_letters, producer),
        settings.client_options,
    )
    fusion = build_fusion(app, settings, updater, definitions, reader, store, fencing, lineage, producer)
    examine_before_reading(app, fusion, lineage)
    stalls = stall_watchdog(
        app, settings, fusion, lambda: app.should_stop or bool(reasons_not_ready(app, reader, reachability))
    )
    _add_tasks(app, reader, reachability, stalls)
    _add_timers(app, reader)
    _add_agent(app, settings, fusion)
    device = updater.device
    gpu = partial(torch.cuda.mem_get_info, device) if device.type == "cuda" else None
    MACHINE.watch(settings.data_directory, gpu)
    metrics.BUILD.info(
        {
            "version": version("beliefstream"),
            "device": str(device),
            "model": str(updater.network.describe()),
            "weights": settings.weights,
        }
    )
    add_pages(app, reader, fusion, reachability, settings.token, stalls.metrics_read.set)


def _add_tasks(
    app: faust.App, reader: DefinitionsReader, reachability: Reachability, stalls: StallWatchdog
) -> None:
    @app.task  # type: ignore[untyped-decorator]
    async def read_definitions() -> None:
        await run_or_stop(reader.start(), "definitions cannot be read")

    @app.task  # type: ignore[untyped-decorator]
    async def watch_brokers() -> None:
        await reachability.watch(partial(producer_client, app))

    @app.task  # type: ignore[untyped-decorator]
    async def watch_partitions() -> None:
        await stalls.watch()


def _add_timers(app: faust.App, reader: DefinitionsReader) -> None:
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


def _add_agent(app: faust.App, settings: Settings, fusion: Fusion) -> None:
    source = app.topic(
        settings.names.observations,
        settings.names.priors,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        partitions=settings.partitions,
    )
    scheduler = FairScheduler(
        settings.batch, lambda message: cast(SafeConsumer, app.consumer).release(message)
    )
    app.flow_control.manage_queue(cast(Any, scheduler))

    @app.agent(source, name="fuse")
    async def fuse(stream: faust.StreamT[bytes]) -> None:
        async for events in batches(stream, settings.batch, settings.batch_seconds):
            batch = scheduler.take(events)
            while batch:
                # an exception would leave the agent: stop at once, so that the batch is delivered again
                with garbage_collection.paused():
                    await run_or_stop(
                        fusion.process(batch, scheduler.ends(batch)), "a batch failed, the worker stops"
                    )
                done = scheduler.done(batch)
                acknowledge(stream, done)
                fusion.acknowledged(done)
                # if more messages have arrived, let the waiting ones share the next turn with them
                alone = scheduler.full or cast(Any, stream.channel).queue.empty()
                batch = scheduler.take() if alone else []
