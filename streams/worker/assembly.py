"""Builds the parts of a worker that `app.py` connects."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, cast

import faust
import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord
from faust.types import TP

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Reason
from beliefstream.streams.definitions.reader import Definitions, DefinitionsReader
from beliefstream.streams.kafka.faust.app_connections import started_producer
from beliefstream.streams.kafka.faust.consumer import SafeConsumer
from beliefstream.streams.kafka.faust.recovery import SafeTableManager
from beliefstream.streams.kafka.producing import send_all
from beliefstream.streams.kafka.topic_states import require, topic_states
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.expiry import Expiry
from beliefstream.streams.state.fencing import Fencing
from beliefstream.streams.state.lineage import Lineage
from beliefstream.streams.state.stores import BeliefStore
from beliefstream.streams.worker.batch_validation import BatchValidator
from beliefstream.streams.worker.dead_letters import ANNOUNCER, Example, dead_letter
from beliefstream.streams.worker.fusion import Fusion
from beliefstream.streams.worker.misplaced_records import Placement
from beliefstream.streams.worker.resets import Resets
from beliefstream.streams.worker.sensor_health import SensorHealthKeeper
from beliefstream.streams.worker.shutdown import run_or_stop
from beliefstream.streams.worker.validation import Validator
from beliefstream.streams.worker.watchdog import BacklogReader, StallWatchdog, WorkerProbe

log = structlog.get_logger()

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
