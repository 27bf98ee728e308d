"""Metrics of the health of sensors, over the partitions of a worker."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from functools import partial
from time import monotonic
from typing import NamedTuple

from beliefstream.inference.tracking.health.verdicts import (
    Assessment,
    allowed_silence,
    assess,
    judge_together,
)
from beliefstream.inference.tracking.health.windows import Window, merged
from beliefstream.streams.monitoring import metrics


class _Part(NamedTuple):
    definition: bytes
    window: Window


class _Reached(NamedTuple):
    event_time: float
    at: float  # by the monotonic clock


class SensorMetrics:
    """Sets the metrics of sensors when they are read: an assessment costs more than counting an observation."""

    def __init__(self) -> None:
        self._changed: dict[str, bytes] = {}  # definitions of the sensors that were reported since
        self._parts: dict[str, dict[int, _Part]] = defaultdict(dict)
        self._alone: dict[str, Assessment] = {}
        self._entities: dict[str, int] = {}
        self._reached: dict[int, _Reached] = {}

    def advance(self, partition: int, event_time: float) -> None:
        """Note that the partition has come to that time, with observations of any sensor."""
        before = self._reached.get(partition)
        newest = event_time if before is None else max(event_time, before.event_time)
        self._reached[partition] = _Reached(newest, monotonic())

    def note(self, partition: int, sensor: str, definition: bytes, window: Window) -> None:
        """Keep a window, which may change until the metrics are shown."""
        if metrics.has_series(sensor):
            self._parts[sensor][partition] = _Part(definition, window)
            self._changed[sensor] = definition

    def show(self) -> None:
        """Set the metrics of the sensors that were reported since the last time."""
        for sensor, definition in self._changed.items():
            self._show(sensor, definition)
        self._changed = {}

    def _show(self, sensor: str, definition: bytes) -> None:
        """Set the metrics from the windows of all partitions with the same definition."""
        parts = self._parts[sensor]
        whole = merged(part.window for part in parts.values() if part.definition == definition)
        self._alone[sensor], self._entities[sensor] = assess(whole), whole.entities
        found = judge_together(self._alone, self._entities)[sensor]
        worst = max(found.channels, key=lambda channel: max(channel.evidence.values()))
        metrics.set_sensor(
            sensor,
            verdict=found.verdict,
            noise_scale=worst.noise_scale,
            outlier_share=worst.outlier_share,
            newest=whole.newest,
            due=whole.newest + allowed_silence(whole),
            clock=partial(self._clock, sensor),
        )

    def _clock(self, sensor: str) -> float:
        """Event time of the sensor's partitions: the least, since a worker may be behind in one of them."""
        now = monotonic()
        reached = [self._reached[each] for each in list(self._parts[sensor]) if each in self._reached]
        return min((each.event_time + now - each.at for each in reached), default=math.nan)

    def keep_partitions(self, partitions: Collection[int]) -> None:
        """Forget the partitions that other workers own now, and remove sensors that have no other."""
        for partition in self._reached.keys() - set(partitions):
            del self._reached[partition]
        for sensor, parts in list(self._parts.items()):
            for partition in parts.keys() - set(partitions):
                del parts[partition]
            if not parts:
                self.forget(sensor)

    def forget(self, sensor: str) -> None:
        """Remove the sensor from the metrics, in all partitions."""
        self._parts.pop(sensor, None)
        self._changed.pop(sensor, None)
        if self._alone.pop(sensor, None) is not None:
            del self._entities[sensor]
            metrics.remove_sensor(sensor)
