"""The new observations of a batch in columns, with what each adds to the health of its sensor.

A batch has thousands of them. What is done for each in Python takes longer than all arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from beliefstream.inference.tracking.events import Instant
from beliefstream.inference.tracking.health.columns import WIDTH, Array
from beliefstream.inference.tracking.health.sums import terms
from beliefstream.streams.state.sensor_records import Offsets
from beliefstream.streams.worker.entity_batch import EntityBatch


class Fitted:
    """The new observations of instants that were applied, and how they fit their predictions.

    Each is added right after its update, when all that is taken of it is in the processor's cache.
    """

    def __init__(self) -> None:
        self.numbers: dict[tuple[int, str], int] = defaultdict(count().__next__)  # by partition and sensor
        self.groups: list[int] = []  # one of these numbers each
        self.times: list[float] = []
        self.offsets: list[int] = []
        self.bits: list[int] = []
        self.fits: list[Array] = []

    def add(self, entity: EntityBatch, instant: Instant, fits: Array) -> None:
        """Add the new observations of an instant; `fits` are those of all its readings, ``(channels, len(Fit))``."""
        start = 0
        for label, reading in zip(instant.labels, instant.readings, strict=True):
            entry, end = entity.entries[label], start + reading.sensor.value_length
            if not entry.is_applied:
                self.groups.append(self.numbers[entity.partition, entry.sensor])
                self.times.append(instant.time)
                self.offsets.append(entry.message.offset)
                self.bits.append(entity.bit)
                self.fits.append(fits if end - start == len(fits) else fits[start:end])
            start = end


class Judged(NamedTuple):
    """``N`` new observations of one sensor in one partition, in the order in which they were applied.

    Attributes:
        times: ``(N,)``, in seconds.
        offsets: ``(N,)``.
        terms: what they add to the sums of the sensor, ``(N, channels, WIDTH)``.
        newest: the latest of the times.
        entities: the bits of their entities.
    """

    partition: int
    sensor: str
    times: Array
    offsets: Offsets
    terms: Array
    newest: float
    entities: int


def by_sensor(fitted: Fitted) -> Iterator[Judged]:
    """Yield the observations by partition and sensor, in order of the first of each."""
    if not fitted.groups:
        return
    group = np.array(fitted.groups)
    order = np.argsort(group, kind="stable")
    times, offsets = np.array(fitted.times)[order], np.array(fitted.offsets, dtype=np.int64)[order]
    bits = np.array(fitted.bits)[order]
    channels = np.fromiter(map(len, fitted.fits), np.int64, len(fitted.fits))
    fits = np.concatenate(fitted.fits)
    table = terms(fits[np.argsort(np.repeat(group, channels), kind="stable")])
    stops = np.cumsum(np.bincount(group))
    starts = np.concatenate([[0], stops[:-1]])
    rows = np.concatenate([[0], np.cumsum(channels[order])])
    newest, entities = (
        np.maximum.reduceat(times, starts).tolist(),
        np.bitwise_or.reduceat(bits, starts).tolist(),
    )
    for index, (partition, sensor) in enumerate(fitted.numbers):
        start, stop = starts[index], stops[index]
        found = table[rows[start] : rows[stop]].reshape(stop - start, -1, WIDTH)
        yield Judged(
            partition, sensor, times[start:stop], offsets[start:stop], found, newest[index], entities[index]
        )
