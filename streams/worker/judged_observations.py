"""The new observations of a batch in columns, with what each adds to the health of its sensor.

A batch has thousands of them. What is done for each in Python takes longer than all arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.tracking.events import Instant
from beliefstream.inference.tracking.health.columns import WIDTH, Array
from beliefstream.inference.tracking.health.sums import terms
from beliefstream.inference.tracking.health.windows import entity_bit
from beliefstream.streams.state.sensor_records import Offsets
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.entries import Entry


class Fitted(NamedTuple):
    """An instant that was applied, and how its readings fit their prediction, ``(channels, len(Fit))``."""

    entity: EntityBatch
    instant: Instant
    fits: Array


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


def by_sensor(fitted: Sequence[Fitted]) -> Iterator[Judged]:
    """Yield the new observations of the instants by partition and sensor, in order of the first of each."""
    several = [
        (entity, entity.entries[label])
        for entity, instant, _ in fitted
        if instant.readings
        for label in instant.labels
    ]
    if not several:
        return
    readings = [reading for _, instant, _ in fitted for reading in instant.readings]
    channels = np.array([reading.sensor.value_length for reading in readings])
    fits = np.concatenate([each.fits for each in fitted])
    is_new = np.array([not entry.is_applied for _, entry in several])
    if not is_new.all():
        fits, channels = fits[np.repeat(is_new, channels)], channels[is_new]
        several = [(entity, entry) for entity, entry in several if not entry.is_applied]
    if several:
        yield from _by_sensor(several, channels, fits)


def _by_sensor(
    several: Sequence[tuple[EntityBatch, Entry]], channels: NDArray[np.int64], fits: Array
) -> Iterator[Judged]:
    """Group observations; the fits of one have as many rows as it has `channels`."""
    numbers: dict[tuple[int, str], int] = defaultdict(count().__next__)
    group = np.array([numbers[entity.partition, entry.sensor] for entity, entry in several])
    order = np.argsort(group, kind="stable")
    times = np.array([entry.event.time for _, entry in several])[order]
    offsets = np.array([entry.message.offset for _, entry in several], dtype=np.int64)[order]
    bits = np.array([entity_bit(entity.key) for entity, _ in several])[order]
    table = terms(fits[np.argsort(np.repeat(group, channels), kind="stable")])
    stops = np.cumsum(np.bincount(group))
    starts = np.concatenate([[0], stops[:-1]])
    rows = np.concatenate([[0], np.cumsum(channels[order])])
    newest, entities = (
        np.maximum.reduceat(times, starts).tolist(),
        np.bitwise_or.reduceat(bits, starts).tolist(),
    )
    for index, (partition, sensor) in enumerate(numbers):
        start, stop = starts[index], stops[index]
        found = table[rows[start] : rows[stop]].reshape(stop - start, -1, WIDTH)
        yield Judged(
            partition, sensor, times[start:stop], offsets[start:stop], found, newest[index], entities[index]
        )
