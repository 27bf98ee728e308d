"""Keeps the health of sensors in each partition, and reports it.

After a batch is computed, the fits of its new observations are added to the sums of their sensors, and stored with the
batch's beliefs (`streams.state.sensor_records`). At most once per sensor and shortest block of event time, a summary
with the sums goes to the topic of sensor health. It is sent before the sums are stored, as posteriors are before
beliefs. A crash may repeat a summary, and loses none.

The health of a removed sensor is forgotten when all offsets that it counted are committed. Its record must stay until
then: if the sensor were defined again, redelivered observations would be counted twice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np
from faust.types import TP

from beliefstream.inference.tracking.health import verdicts
from beliefstream.inference.tracking.health.windows import Window
from beliefstream.schemas import ChannelHealth, HealthBlock, Sensor, SensorHealth, cloudevents
from beliefstream.schemas.sensor_health import digest_of
from beliefstream.streams.definitions.reader import Definitions, PerSensor
from beliefstream.streams.kafka.producing import Lease, Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring.sensor_metrics import SensorMetrics
from beliefstream.streams.state.sensor_records import (
    WHOLE,
    Keys,
    Offsets,
    SensorRecord,
    counted_in,
    keys_of,
    load,
    sensor_of,
)
from beliefstream.streams.state.stores import BeliefStore
from beliefstream.streams.worker.rounds import Fitted, Judged, by_sensor

MOST_AT_ONCE = 100  # sensors looked at with one batch

Place = tuple[int, str]
"""Partition and sensor."""


class RemovedSensors:
    """Knows which sensors have records in the partitions of a worker, and which of these are not defined any more.

    A batch costs a comparison of two numbers while no definition is removed. The store is searched once for each lease
    of a partition, because another run may have left records.
    """

    def __init__(self, definitions: Definitions, store: BeliefStore) -> None:
        self._definitions, self._store = definitions, store
        self._stored: dict[int, set[str]] = defaultdict(set)
        self._searched: set[int] = set()
        self._waiting: dict[Place, None] = {}  # to be forgotten, the next one first
        self._removals = definitions.removals

    def note(self, partition: int, sensor: str) -> None:
        """Note that the sensor has a record in the partition."""
        self._stored[partition].add(sensor)

    def keep_partitions(self, partitions: Collection[int]) -> None:
        """Forget what is known of other partitions, which are searched when they come back."""
        self._stored = defaultdict(
            set, {partition: names for partition, names in self._stored.items() if partition in partitions}
        )
        self._waiting = {place: None for place in self._waiting if place[0] in partitions}
        self._searched &= set(partitions)

    def next_places(self, owned: Collection[int]) -> list[Place]:
        """Return some records of removed sensors in these partitions, each again and again until it is `done`."""
        partitions = self._search_one(owned)
        if self._removals != self._definitions.removals:
            self._removals, partitions = self._definitions.removals, list(self._stored)
        defined = self._definitions.sensors
        for partition in partitions:
            removed = self._stored[partition] - defined.keys()
            self._waiting |= dict.fromkeys((partition, sensor) for sensor in sorted(removed))
        found = []
        for place in list(islice(self._waiting, MOST_AT_ONCE)):
            del self._waiting[place]
            if place[1] not in defined:  # else it is defined again
                self._waiting[place] = None
                found.append(place)
        return found

    def done(self, place: Place) -> None:
        """Note that the store has no such record any more."""
        self._waiting.pop(place, None)
        self._stored[place[0]].discard(place[1])

    def _search_one(self, owned: Collection[int]) -> list[int]:
        """Search one of the partitions that have not been searched, and return it: a batch must not wait for all."""
        partition = next((each for each in owned if each not in self._searched), None)
        if partition is None:
            return []
        self._searched.add(partition)
        self._stored[partition] |= {sensor_of(key) for key, _ in self._store.internal(partition, WHOLE)}
        return [partition]


def summary(
    sensor: str, partition: int, record: SensorRecord, assessment: verdicts.Assessment
) -> SensorHealth:
    """Return the message of a sensor in one partition; `assessment` is of its record's window."""
    window = record.window
    return SensorHealth(
        sensor=sensor,
        partition=partition,
        time=window.newest,
        first=window.first,
        definition=record.definition.hex(),
        window=window.seconds,
        longest_gap=window.longest_gap,
        entities=window.entities,
        verdict=assessment.verdict,
        channels=tuple(map(_channel, assessment.channels)),
        blocks=tuple(
            HealthBlock(start=block.start, length=block.length, sums=tuple(map(tuple, block.sums.tolist())))
            for block in window.blocks
        ),
    )


def _channel(found: verdicts.ChannelHealth) -> ChannelHealth:
    known = math.isfinite(found.bias) and math.isfinite(found.bias_deviation)
    return ChannelHealth(
        verdict=found.verdict,
        observations=found.count,
        bias=found.bias if known else None,
        bias_deviation=found.bias_deviation if known else None,
        noise_scale=found.noise_scale,
        outlier_share=min(max(found.outlier_share, 0.0), 1.0),
        excess_log_evidence=found.excess,
    )


class Stored(NamedTuple):
    """A record, and the bytes of both its parts in the store."""

    whole: bytes | None
    newest: bytes | None
    record: SensorRecord


class HealthChanges(NamedTuple):
    """What a batch changes: summaries to send, and entries of the changelog by partition."""

    summaries: list[Record]
    entries: dict[int, dict[bytes, bytes | None]]


class SensorHealthKeeper:
    """Adds a batch's observations to the health of their sensors.

    Args:
        application: name of the application, for the headers of summaries.
        store: holds the records.
        committed: returns the group's committed offset; 0 for none.
        seconds: length of the window.
    """

    def __init__(
        self,
        names: TopicNames,
        application: str,
        definitions: Definitions,
        store: BeliefStore,
        committed: Callable[[TP], int],
        seconds: float,
    ) -> None:
        self._names, self._application, self._definitions = names, application, definitions
        self._store, self._committed, self._seconds = store, committed, seconds
        self._metrics = SensorMetrics()
        self._removed = RemovedSensors(definitions, store)
        self._digests = PerSensor(lambda each: bytes.fromhex(digest_of(each)), definitions.sensors)
        # records that the last batches changed, with the bytes that they were stored as, by partition and sensor
        self._decoded: dict[tuple[int, str], Stored] = {}
        # offsets that another run of a worker counted, by partition and sensor, and the lease they were read under
        self._inherited: dict[tuple[int, str], Offsets] = {}
        self._epochs: dict[int, int] = {}

    def add(self, fitted: Fitted, leases: Mapping[int, Lease]) -> HealthChanges:
        """Count new observations, except those of removed sensors, and forget such sensors.

        Returns the changes to send and to store.
        """
        changes = HealthChanges([], defaultdict(dict))
        self._forget_others(leases)
        for judged in by_sensor(fitted):
            self._metrics.advance(judged.partition, judged.newest)
            definition = self._definitions.sensors.get(judged.sensor)
            if definition is not None:
                self._count(judged, definition, changes)
        self._forget_removed(leases, changes)
        return changes

    def _count(self, judged: Judged, definition: Sensor, changes: HealthChanges) -> None:
        """Add what was judged to the health of its sensor, which has this definition."""
        partition, sensor, times, terms = judged.partition, judged.sensor, judged.times, judged.terms
        keys = keys_of(partition, sensor)
        stored = self._stored(partition, definition, keys, terms.shape[1])
        record, window = stored.record, stored.record.window
        window.entities |= judged.entities
        if not set(record.counted.tolist()).isdisjoint(judged.offsets.tolist()):  # nearly never
            is_new = ~np.isin(judged.offsets, record.counted)
            if not is_new.any():
                return
            times, terms = times[is_new], terms[is_new]
        only_newest = window.add(times, terms)
        known = self._unconfirmed(partition, sensor, record.counted)
        record.counted = np.union1d(known, judged.offsets) if len(known) else np.sort(judged.offsets)
        self._removed.note(partition, sensor)
        number = math.floor(window.newest / window.resolution)
        if number > record.published:
            record.published = number
            self._metrics.note(partition, sensor, record.definition, window)
            message = summary(sensor, partition, record, verdicts.assess(window))
            changes.summaries.append(self._summary_record(message))
        if only_newest:
            changes.entries[partition][keys.newest] = raw = record.newest()
            self._decoded[partition, sensor] = Stored(stored.whole, raw, record)
        else:
            changes.entries[partition][keys.whole] = raw = record.whole()
            self._decoded[partition, sensor] = Stored(raw, stored.newest, record)

    def show(self) -> None:
        """Set the metrics of sensors whose health was reported since the last time."""
        self._metrics.show()

    def _summary_record(self, message: SensorHealth) -> Record:
        identity = f"{message.sensor}:{message.partition}:{message.time:.6f}"
        headers = cloudevents.headers(
            cloudevents.SENSOR_HEALTH, f"/{self._application}", identity, message.time
        )
        key = message.sensor.encode()
        return Record(self._names.sensor_health, message.partition, key, message.to_json(), headers)

    def _stored(self, partition: int, definition: Sensor, keys: Keys, channels: int) -> Stored:
        """Return the stored record, or a new one if there is none for this definition, window and length."""
        digest = self._digests.of(definition)
        whole, newest = (self._store.read(partition, key) for key in keys)
        kept = self._decoded.pop((partition, definition.sensor), None)
        # the store has other bytes if the batch of these failed, or another worker wrote later ones
        record = kept.record if kept is not None and kept[:2] == (whole, newest) else load(whole, newest)
        if record is None:
            return Stored(whole, newest, SensorRecord(Window(self._seconds, channels), digest))
        window = record.window
        if (record.definition, window.seconds, window.channels) != (digest, self._seconds, channels):
            fresh = Window(self._seconds, channels)
            record = SensorRecord(fresh, digest, record.counted, edition=record.edition)
        return Stored(whole, newest, record)

    def _forget_removed(self, leases: Mapping[int, Lease], changes: HealthChanges) -> None:
        """Remove records of sensors that are not defined any more, with what was published of them."""
        for partition, sensor in self._removed.next_places(leases):
            whole, newest = keys_of(partition, sensor)
            parts = [self._store.read(partition, key) for key in (whole, newest)]
            if parts == [None, None]:
                self._removed.done((partition, sensor))
                continue
            committed = self._committed(TP(self._names.observations, partition))
            if (counted_in(*parts) >= committed).any():
                continue
            # the first observation of a record has sent a summary, so there is one of every record
            changes.summaries.append(Record(self._names.sensor_health, partition, sensor.encode(), None))
            # the whole record last: if only the other is deleted before a crash, the next run finds this one
            changes.entries[partition].update({newest: None, whole: None})
            self._decoded.pop((partition, sensor), None)
            self._inherited.pop((partition, sensor), None)
            self._metrics.forget(sensor)

    def _unconfirmed(self, partition: int, sensor: str, counted: Offsets) -> Offsets:
        """Return counted offsets of an earlier run that may still be delivered again."""
        inherited = self._inherited.get((partition, sensor), counted)
        if len(inherited):
            inherited = inherited[inherited >= self._committed(TP(self._names.observations, partition))]
        self._inherited[partition, sensor] = inherited
        return inherited

    def _forget_others(self, leases: Mapping[int, Lease]) -> None:
        """Forget what was read under leases that have ended since."""
        epochs = {partition: lease.epoch for partition, lease in leases.items()}
        if epochs == self._epochs:
            return
        same = {partition for partition, epoch in epochs.items() if self._epochs.get(partition) == epoch}
        self._inherited = {place: found for place, found in self._inherited.items() if place[0] in same}
        self._decoded = {place: kept for place, kept in self._decoded.items() if place[0] in same}
        self._removed.keep_partitions(same)
        self._metrics.keep_partitions(set(epochs))
        self._epochs = epochs
