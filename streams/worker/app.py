"""Builds a worker's Faust application from its settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import faust
import structlog
import torch
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.types import TP

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Reason
from beliefstream.streams.definitions import own_code
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.aiokafka_clients import fault_of
from beliefstream.streams.kafka.faust.connections import (
    clients,
    producer_client,
    started_producer,
    use_safe_connections,
)
from beliefstream.streams.kafka.faust.consumer import (
    TOPIC_CHANGED,
    SafeConsumer,
    use_safe_consumer,
)
from beliefstream.streams.kafka.faust.recovery import SafeTableManager
from beliefstream.streams.kafka.faust.stream_batches import acknowledge, batches
from beliefstream.streams.kafka.producing import send_all
from beliefstream.streams.kafka.reachability import Reachability, TopicState, topic_states
from beliefstream.streams.monitoring import logs, metrics
from beliefstream.streams.monitoring.metrics import MACHINE
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.stores import BeliefTable
from beliefstream.streams.state.table_recovery import BeliefTableManager
from beliefstream.streams.worker import process
from beliefstream.streams.worker.batch import ANNOUNCER, Example, dead_letter
from beliefstream.streams.worker.fair_scheduling import FairScheduler
from beliefstream.streams.worker.fusion import Fusion
from beliefstream.streams.worker.health import add_pages, reasons_not_ready
from beliefstream.streams.worker.process import run_or_stop
from beliefstream.streams.worker.watchdog import BacklogReader, StallWatchdog, WorkerProbe

log = structlog.get_logger()
CHECK_SECONDS = 5.0
LARGEST_RECORD = 64 * 1024 * 1024  # bytes; a dead letter is as large as its source record


def _consumer(app: faust.App) -> SafeConsumer:
    return cast(SafeConsumer, app.consumer)


def belief_table(app: faust.App, settings: Settings) -> Any:
    """Declare the table of beliefs, which recovers from the changelog."""

    async def changelog_id() -> str:
        asked = topic_states((await started_producer(app)).client, [settings.names.beliefs_changelog])
        found = await run_or_stop(asked, "the changelog's id cannot be read, the worker stops")
        # the changelog's readers notice if it is missing
        return found[settings.names.beliefs_changelog].id if found else ""

    on_disk = {"directory": settings.belief_directory, "topic_id": changelog_id}
    return app.Table(
        "beliefs", key_type=bytes, value_type=bytes, partitions=settings.partitions, options=on_disk
    )


def guard_recovery(app: faust.App, fusion: Fusion) -> None:
    """Have partitions taken over before their changelog is read, and compared with their source afterwards."""

    async def fence(partitions: Collection[int]) -> None:
        await run_or_stop(fusion.take(partitions), "partitions cannot be taken over, the worker stops")

    async def examine(consumer: Any, partitions: Collection[int]) -> bool:
        held = fusion.examine(consumer, partitions)
        return await run_or_stop(held, "beliefs cannot be compared with their source, the worker stops")

    tables = cast(SafeTableManager, app.tables)
    tables.fence, tables.examine = fence, examine


async def reject_definition(
    app: faust.App, dead_letters: str, record: ConsumerRecord, reason: Reason, detail: str
) -> None:
    """Log a definition that cannot be used, and send it to the dead letters."""
    log.warning("a definition cannot be used", topic=record.topic, key=record.key, detail=detail)
    place = (record.topic, record.partition, record.offset)
    letter = dead_letter(dead_letters, reason, detail, place, record.key, record.value)
    await send_all(await started_producer(app), [letter])
    metrics.DEAD_LETTERS.labels(reason.value).inc()
    ANNOUNCER.note(reason, Example(place, record.key, detail))


def stall_watchdog(
    app: faust.App, settings: Settings, fusion: Fusion, is_blocked: Callable[[], bool]
) -> StallWatchdog:
    """Build the watchdog for partitions that make no progress."""
    sources = (settings.names.observations, settings.names.priors)

    def processed_offsets() -> dict[TP, int]:
        places = [place for place in app.consumer.assignment() if place.topic in sources]
        return {place: fusion.processed(place) for place in places}

    worker = WorkerProbe(
        processed_offsets, lambda: fusion.is_busy, lambda: bool(_consumer(app).unacked), is_blocked
    )
    return StallWatchdog(
        settings.stall_seconds, worker, BacklogReader(settings.brokers, settings.client_options)
    )


def create_app(settings: Settings, updater: Updater, reachability: Reachability | None = None) -> faust.App:
    """Build a worker's application without starting it.

    `reachability` is updated while the application runs.

    Raises ValueError if a module in `settings.measurements` cannot be imported.
    """
    own_code.load(settings.measurements)
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

    use_safe_consumer(app, settings.names.priors, states, fetch_high_watermark=settings.fetch_high_watermark)
    metrics.begin((settings.names.observations, settings.names.priors))
    _build(app, settings, updater, reachability or Reachability(settings.names))
    return app


def _build(app: faust.App, settings: Settings, updater: Updater, reachability: Reachability) -> None:
    """Connect the parts of the worker, and add its tasks, its agent and its pages to the application."""
    names, store = settings.names, belief_table(app, settings).store
    reader = DefinitionsReader(
        Definitions(names.sensors, names.models, settings.maximum_message_bytes),
        settings.brokers,
        partial(reject_definition, app, names.dead_letters),
        settings.client_options,
    )
    fusion = Fusion(settings, reader, updater, store, partial(started_producer, app), partial(_consumer, app))
    guard_recovery(app, fusion)
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
    scheduler = FairScheduler(settings.batch, lambda message: _consumer(app).release(message))
    app.flow_control.manage_queue(cast(Any, scheduler))

    @app.agent(source, name="fuse")
    async def fuse(stream: faust.StreamT[bytes]) -> None:
        async for events in batches(stream, settings.batch, settings.batch_seconds):
            batch = scheduler.take(events)
            while batch:
                # an exception would leave the agent: stop at once, so that the batch is delivered again
                with process.paused():
                    await run_or_stop(
                        fusion.process(batch, scheduler.ends(batch)), "a batch failed, the worker stops"
                    )
                done = scheduler.done(batch)
                acknowledge(stream, done)
                fusion.acknowledged(done)
                # if more messages have arrived, let the waiting ones share the next turn with them
                alone = scheduler.full or cast(Any, stream.channel).queue.empty()
                batch = scheduler.take() if alone else []
