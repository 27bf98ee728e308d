"""Builds a worker's Faust application from its settings."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import faust
import structlog
import torch
from aiokafka import AIOKafkaProducer, ConsumerRecord
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
    use_fetch_high_watermark,
    use_safe_consumer,
)
from beliefstream.streams.kafka.faust.recovery import SafeTableManager
from beliefstream.streams.kafka.faust.stream_batches import acknowledge, batches
from beliefstream.streams.kafka.producing import send_all
from beliefstream.streams.kafka.reachability import Reachability, TopicState, require, topic_states
from beliefstream.streams.monitoring import logs, metrics
from beliefstream.streams.monitoring.metrics import MACHINE
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.expiry import Expiry
from beliefstream.streams.state.fencing import Fencing
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.stores import BeliefStore, BeliefTable
from beliefstream.streams.state.table_recovery import BeliefTableManager
from beliefstream.streams.worker import process
from beliefstream.streams.worker.batch import ANNOUNCER, Example, dead_letter
from beliefstream.streams.worker.batch_validation import BatchValidator, Resets
from beliefstream.streams.worker.fair_scheduling import FairScheduler
from beliefstream.streams.worker.fusion import Fusion
from beliefstream.streams.worker.health import add_pages, reasons_not_ready
from beliefstream.streams.worker.misplaced_records import Placement
from beliefstream.streams.worker.process import run_or_stop
from beliefstream.streams.worker.sensor_health import SensorHealthKeeper
from beliefstream.streams.worker.validation import Validator
from beliefstream.streams.worker.watchdog import BacklogReader, StallWatchdog, WorkerProbe

log = structlog.get_logger()
CHECK_SECONDS = 5.0
LARGEST_RECORD = 64 * 1024 * 1024  # bytes; a dead letter is as large as its source record

StartedProducer = Callable[[], Awaitable[AIOKafkaProducer]]


def _committed(app: faust.App, place: TP) -> int:
    return cast(SafeConsumer, app.consumer).committed.get(place, 0)


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


def ownership(
    app: faust.App, settings: Settings, store: BeliefStore, producer: StartedProducer
) -> tuple[Fencing, Lineage]:
    """Build what decides whether this worker may write beliefs, and whether they match their source."""
    names = settings.names
    fencing = Fencing(settings.application, names.beliefs_changelog, producer)

    async def take(partitions: Collection[int]) -> None:
        # without its changelog a producer would ask for it again and again, and say nothing for a minute
        topics = names.observations, names.priors, names.beliefs_changelog
        require(topics, await topic_states((await producer()).client, topics))
        await fencing.take(partitions)

    async def fence(partitions: Collection[int]) -> None:
        await run_or_stop(take(partitions), "partitions cannot be taken over, the worker stops")

    cast(SafeTableManager, app.tables).fence = fence
    return fencing, Lineage(names, store, fencing, producer, partial(_committed, app))


def examine_before_reading(app: faust.App, fusion: Fusion, lineage: Lineage) -> None:
    """Compare restored beliefs with their source before the worker reads on."""

    async def examine(consumer: Any, partitions: Collection[int]) -> bool:
        fusion.processed_offsets.clear()  # reading restarts at the committed offsets
        held = lineage.examine(consumer, partitions)
        return await run_or_stop(held, "beliefs cannot be compared with their source, the worker stops")

    cast(SafeTableManager, app.tables).examine = examine


async def reject_definition(
    dead_letters: str, producer: StartedProducer, record: ConsumerRecord, reason: Reason, detail: str
) -> None:
    """Log a definition that cannot be used, and send it to the dead letters."""
    log.warning("a definition cannot be used", topic=record.topic, key=record.key, detail=detail)
    place = (record.topic, record.partition, record.offset)
    letter = dead_letter(dead_letters, reason, detail, place, record.key, record.value)
    await send_all(await producer(), [letter])
    metrics.DEAD_LETTERS.labels(reason.value).inc()
    ANNOUNCER.note(reason, Example(place, record.key, detail))


def build_fusion(
    app: faust.App,
    settings: Settings,
    updater: Updater,
    definitions: Definitions,
    reader: DefinitionsReader,
    store: BeliefStore,
    fencing: Fencing,
    lineage: Lineage,
    producer: StartedProducer,
) -> Fusion:
    """Build what applies batches to beliefs."""

    async def ends(places: Collection[TP]) -> Mapping[TP, int]:
        found: Mapping[TP, int] = await app.consumer.highwaters(*places)
        return found

    names = settings.names
    validator = Validator(
        definitions, settings.maximum_message_bytes, settings.future_tolerance, settings.event_tolerance
    )
    placement = Placement(names, settings.partitions, settings.refuse_misplaced)
    resets = Resets(names, settings.application, definitions, lineage, ends)
    sensors = SensorHealthKeeper(
        names, settings.application, definitions, store, partial(_committed, app), settings.health_window
    )
    checks_event_time = settings.event_tolerance < math.inf
    return Fusion(
        names,
        settings.application,
        BatchValidator(names, validator, definitions, store, placement, resets, checks_event_time),
        definitions,
        reader,
        updater,
        store,
        producer,
        fencing,
        Expiry(names, definitions, store, partial(_committed, app)),
        lineage,
        placement,
        resets,
        sensors,
        settings.history,
        lambda: cast(SafeConsumer, app.consumer).topics_checked(),
    )


def stall_watchdog(
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
