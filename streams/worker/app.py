"""Builds a worker's Faust application from its settings."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import faust
import torch

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.definitions import own_code
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka import aiokafka_clients
from beliefstream.streams.kafka.faust import connections
from beliefstream.streams.kafka.faust.consumer import SafeConsumer, use_safe_consumer
from beliefstream.streams.kafka.faust.stream_batches import acknowledge, batches
from beliefstream.streams.kafka.reachability import Reachability, TopicState, topic_states
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.stores import BeliefStore, or_stop
from beliefstream.streams.state.table import BeliefTable
from beliefstream.streams.state.table_recovery import BeliefTableManager
from beliefstream.streams.worker import health, process
from beliefstream.streams.worker.batch import reject_definition
from beliefstream.streams.worker.fair_scheduling import FairScheduler
from beliefstream.streams.worker.fusion import Fusion
from beliefstream.streams.worker.watchdog import StallWatchdog, stall_watchdog

LARGEST_RECORD = 64 * 1024 * 1024  # bytes; a dead letter is as large as its source record


def _consumer(app: faust.App) -> SafeConsumer:
    return cast(SafeConsumer, app.consumer)


def create_app(settings: Settings, updater: Updater, reachability: Reachability | None = None) -> faust.App:
    """Build a worker's application without starting it.

    `reachability` is updated while the application runs.

    Raises ValueError if a module in `settings.measurements` cannot be imported.
    """
    own_code.load(settings.measurements)
    aiokafka_clients.use_safe_connections()
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
        web_bind=settings.web_address.host,
        web_port=settings.web_address.port,
        # of Faust's own pages, keep only "/", which answers OK
        web_tables_enabled=False,
        web_router_enabled=False,
        web_graph_enabled=False,
        web_stats_enabled=False,
        worker_redirect_stdouts=False,
    )

    use_safe_consumer(
        app,
        settings.names.priors,
        partial(_topic_states, app),
        fetch_high_watermark=settings.fetch_high_watermark,
    )
    metrics.begin((settings.names.observations, settings.names.priors))
    _build(app, settings, updater, reachability or Reachability(settings.names))
    return app


async def _topic_states(app: faust.App, names: Collection[str]) -> dict[str, TopicState]:
    return await topic_states((await connections.started_producer(app)).client, names)


def _build(app: faust.App, settings: Settings, updater: Updater, reachability: Reachability) -> None:
    """Connect the parts of the worker, and add its tasks, its agent and its pages to the application."""
    names, store = settings.names, _belief_store(app, settings)
    producer = partial(connections.started_producer, app)
    reader = DefinitionsReader(
        Definitions(names.sensors, names.models, settings.maximum_message_bytes),
        settings.brokers,
        partial(reject_definition, producer, names.dead_letters),
        settings.client_options,
    )
    fusion = Fusion(settings, reader, updater, store, producer, partial(_consumer, app))
    cast(BeliefTableManager, app.tables).guard(fusion.take, fusion.examine)

    stalls = stall_watchdog(
        app,
        settings,
        fusion.processed,
        is_busy=lambda: fusion.is_busy,
        is_blocked=lambda: app.should_stop or bool(health.reasons_not_ready(app, reader, reachability)),
    )
    _add_tasks(app, reader, reachability, stalls)
    health.add_checks(app, reader)
    _add_agent(app, settings, fusion)
    device = updater.device
    gpu = partial(torch.cuda.mem_get_info, device) if device.type == "cuda" else None
    metrics.MACHINE.watch(settings.data_directory, gpu)
    metrics.BUILD.info(
        {
            "version": version("beliefstream"),
            "device": str(device),
            "model": str(updater.network.describe()),
            "weights": settings.weights,
        }
    )
    health.add_pages(app, reader, fusion, reachability, settings.token, stalls.metrics_read.set)


def _belief_store(app: faust.App, settings: Settings) -> BeliefStore:
    """Declare the table of beliefs, which recovers from the changelog, and return its store."""
    changelog = settings.names.beliefs_changelog

    async def changelog_id() -> str:
        with or_stop("the changelog's id cannot be read, the worker stops"):
            found = await _topic_states(app, [changelog])
        # the changelog's readers notice if it is missing
        return found[changelog].id if found else ""

    on_disk = {"directory": settings.belief_directory, "topic_id": changelog_id}
    table: Any = app.Table(
        "beliefs", key_type=bytes, value_type=bytes, partitions=settings.partitions, options=on_disk
    )
    return cast(BeliefTable, table).store


def _add_tasks(
    app: faust.App, reader: DefinitionsReader, reachability: Reachability, stalls: StallWatchdog
) -> None:
    @app.task  # type: ignore[untyped-decorator]
    async def read_definitions() -> None:
        with or_stop("definitions cannot be read"):
            await reader.start()

    @app.task  # type: ignore[untyped-decorator]
    async def watch_brokers() -> None:
        await reachability.watch(partial(connections.producer_client, app))

    @app.task  # type: ignore[untyped-decorator]
    async def watch_partitions() -> None:
        await stalls.watch()


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
    scheduler = FairScheduler(settings.batch, lambda message: _consumer(app).release(message))
    app.flow_control.manage_queue(cast(Any, scheduler))

    @app.agent(source, name="fuse")
    async def fuse(stream: faust.StreamT[bytes]) -> None:
        async for events in batches(stream, settings.batch, settings.batch_seconds):
            batch = scheduler.take(events)
            while batch:
                # an exception would leave the agent: stop at once, so that the batch is delivered again
                with process.paused(), or_stop("a batch failed, the worker stops"):
                    await fusion.process(batch, scheduler.ends(batch))
                done = scheduler.done(batch)
                acknowledge(stream, done)
                fusion.acknowledged(done)
                # if more messages have arrived, let the waiting ones share the next turn with them
                alone = scheduler.full or cast(Any, stream.channel).queue.empty()
                batch = scheduler.take() if alone else []
