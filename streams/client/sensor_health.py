"""Reads the health of sensors from its topic, and judges it over all partitions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from beliefstream.inference.tracking.health.columns import WIDTH
from beliefstream.inference.tracking.health.verdicts import Assessment, assess, judge_together
from beliefstream.inference.tracking.health.windows import Block, Window, merged
from beliefstream.schemas import SensorHealth, Unusable, parse
from beliefstream.streams.kafka.connection import TopicReader

__all__ = ["SensorState", "judged", "read_sensor_health"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class SensorState:
    """Health of one sensor over all partitions.

    Attributes:
        assessment: the verdict, and the estimates for each reported number.
        window: the sums that it follows from.
        definition: digest of the definition under which the sensor reported last.
    """

    assessment: Assessment
    window: Window
    definition: str


def read_sensor_health(
    servers: str | list[str], topic: str = "sensor-health", timeout: float = 30.0, **kafka_options: Any
) -> dict[str, SensorState]:
    """Return the health of each sensor by name.

    Args:
        servers: `host:port`, or several in a list or separated by commas.
        topic: topic of the health of sensors.
        timeout: longest time to read it, in seconds.
        kafka_options: options of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers in time.
        TopicMissing: the broker has no such topic.
    """
    newest: dict[tuple[int, bytes], SensorHealth] = {}
    stamps: dict[int, float] = {}
    with TopicReader(servers, topic, kafka_options) as reader:
        records = reader.read_all(timeout)
    for record in records:
        place = record.partition, record.key or b""
        newest.pop(place, None)
        if record.value is None:  # the sensor was removed, which does not tell how far the partition is
            continue
        stamps[record.partition] = record.timestamp / 1000
        try:
            newest[place] = parse(SensorHealth, record.value)
        except Unusable as error:
            log.warning(
                "record skipped: not the health of a sensor",
                topic=topic,
                partition=record.partition,
                offset=record.offset,
                detail=error.detail,
            )
    return judged(newest.values(), stamps)


def judged(
    messages: Iterable[SensorHealth], stamps: Mapping[int, float] | None = None
) -> dict[str, SensorState]:
    """Judge each sensor by the messages of all partitions, the newest of each.

    Messages with an earlier definition of their sensor, or with another window, are left out. Silence is measured
    against the newest observation of all sensors, but not beyond where a partition of the sensor has come: a worker
    may be behind there.

    Args:
        stamps: time of the newest record of each partition, in seconds; if absent, all are of one time.
    """
    by_sensor: dict[str, list[SensorHealth]] = defaultdict(list)
    for message in messages:
        by_sensor[message.sensor].append(message)
    clocks = _clocks([each for several in by_sensor.values() for each in several], stamps or {})
    windows, definitions = {}, {}
    for sensor in sorted(by_sensor):
        last = max(by_sensor[sensor], key=lambda message: message.time)
        alike = [message for message in by_sensor[sensor] if _kind(message) == _kind(last)]
        windows[sensor], definitions[sensor] = merged(map(window_of, alike)), last.definition
    now = {name: min(clocks[each.partition] for each in several) for name, several in by_sensor.items()}
    alone = {sensor: assess(window, now[sensor]) for sensor, window in windows.items()}
    together = judge_together(alone, {sensor: window.entities for sensor, window in windows.items()})
    return {
        sensor: SensorState(found, windows[sensor], definitions[sensor]) for sensor, found in together.items()
    }


def _clocks(messages: Iterable[SensorHealth], stamps: Mapping[int, float]) -> dict[int, float]:
    """Event time that each partition has reached: where nothing is sent, time goes on from its newest record."""
    reached: dict[int, float] = {}
    for message in messages:
        reached[message.partition] = max(message.time, reached.get(message.partition, -math.inf))
    latest, newest = max(reached.values(), default=0.0), max(stamps.values(), default=0.0)
    return {
        partition: min(latest, time + newest - stamps.get(partition, newest))
        for partition, time in reached.items()
    }


def window_of(message: SensorHealth) -> Window:
    """Return the sums of a message; blocks with other columns, from another version, are left out."""
    channels = len(message.channels)
    blocks = [Block(block.start, block.length, np.array(block.sums)) for block in message.blocks]
    blocks = [block for block in blocks if block.sums.shape == (channels, WIDTH)]
    window = Window(message.window, channels, blocks, message.first, message.time, message.longest_gap)
    window.entities = message.entities
    return window


def _kind(message: SensorHealth) -> tuple[str, float, int]:
    return message.definition, message.window, len(message.channels)
