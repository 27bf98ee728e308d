"""The keeper of sensors' health: every observation is counted once, and summaries are rare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import faust
import numpy as np
import pytest
from faust.types import TP

from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.sensors import Reading, Sensor
from beliefstream.inference.tracking.events import Event, Instant
from beliefstream.inference.tracking.health.columns import Array, Fit, Sum
from beliefstream.schemas import PositionSensor, RangeSensor, SensorHealth, cloudevents, parse
from beliefstream.streams.client.sensor_health import judged, window_of
from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.kafka.producing import Lease, Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.state.sensor_records import keys_of, load
from beliefstream.streams.state.stores import BeliefStore, MemoryStore
from beliefstream.streams.state.table import BeliefTable
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.rounds import Fitted
from beliefstream.streams.worker.sensor_health import HealthChanges, SensorHealthKeeper

SECONDS = 256.0
LEASES = {0: Lease("a", 1, 0), 1: Lease("b", 2, 0)}
RADAR = RangeSensor(sensor="radar", position=(0.0, 0.0), standard_deviation=0.5)
GPS = PositionSensor(sensor="gps", standard_deviation=1.0)
Applied = tuple[EntityBatch, Instant, Array]  # with the fits of its readings


def fits(channels: int, score: float = 0.0) -> Array:
    found = np.zeros((channels, len(Fit)))
    found[:, Fit.SCORE], found[:, Fit.LOG_ODDS], found[:, Fit.SHARE] = score, 5.0, 0.8
    found[:, Fit.DEVIATION], found[:, Fit.STATED] = 0.7, 0.01
    return found


def seen(offset: int, sensor: str = "radar", partition: int = 0, score: float = 0.0) -> Applied:
    """An observation that was applied."""
    position = Sensor(LINEAR, np.eye(2), np.zeros(2), np.eye(2))
    reading = Reading(position if sensor == "gps" else position.channels[0], np.zeros(2))
    event = Event("cart", 1e9 + 0.25 * offset, reading)
    entry = Entry(event, StoredMessage(False, offset, b""), sensor=sensor)
    entity = EntityBatch(b"cart", partition, BeliefRecord(), entries=[entry])
    instant = Instant(event.time, (reading,), labels=(0,))
    return entity, instant, fits(reading.sensor.value_length, score)


def fitted(*applied: Applied) -> Fitted:
    found = Fitted()
    for each in applied:
        found.add(*each)
    return found


def memory_store() -> MemoryStore:
    app = faust.App("app", broker="kafka://127.0.0.1:1", store="memory://", Table=BeliefTable)
    table: Any = app.Table("beliefs", key_type=bytes, value_type=bytes, partitions=2)
    assert isinstance(table.store, MemoryStore)
    return table.store


class Keeping:
    """A keeper on a store, which can end and begin again as after a crash."""

    def __init__(self, store: BeliefStore | None = None) -> None:
        self.store = store if store is not None else memory_store()
        self.committed: dict[TP, int] = {}
        self.written: Counter[int] = Counter()  # records in the changelog, by partition
        self.definitions = Definitions("sensors", "models")
        self.definitions.sensors |= {"radar": RADAR, "gps": GPS}
        self.begin()

    def begin(self) -> None:
        committed = lambda place: self.committed.get(place, 0)  # noqa: E731
        self.keeper = SensorHealthKeeper(
            TopicNames(), "tests", self.definitions, self.store, committed, SECONDS
        )

    def add(self, *applied: Applied, leases: Mapping[int, Lease] = LEASES) -> HealthChanges:
        """One batch, stored."""
        changes = self.keeper.add(fitted(*applied), leases)
        for partition, entries in changes.entries.items():
            self.written[partition] += len(entries)
            self.store.write_own(partition, entries, self.written[partition] - 1, 0)
        return changes

    def total(self, sensor: str = "radar", partition: int = 0) -> Array:
        whole, newest = keys_of(partition, sensor)
        record = load(self.store.read(partition, whole), self.store.read(partition, newest))
        assert record is not None
        return record.window.total()


def messages(records: list[Record]) -> list[SensorHealth]:
    return [parse(SensorHealth, record.value) for record in records]


@pytest.fixture
def keeping() -> Keeping:
    return Keeping()


def test_every_observation_is_counted_once_for_its_sensor_and_partition(keeping: Keeping) -> None:
    keeping.add(*(seen(offset) for offset in range(10)), seen(10, "gps"), seen(11, partition=1))
    keeping.add(*(seen(offset) for offset in range(12, 20)))
    assert keeping.total()[:, Sum.COUNT].tolist() == [18.0]
    assert keeping.total("gps")[:, Sum.COUNT].tolist() == [1.0, 1.0]
    assert keeping.total(partition=1)[:, Sum.COUNT].tolist() == [1.0]


def test_redelivered_observations_whose_beliefs_were_lost_are_not_counted_again(keeping: Keeping) -> None:
    keeping.add(*(seen(offset) for offset in range(5)))
    keeping.committed[TP("observations", 0)] = 5
    keeping.add(*(seen(offset) for offset in range(5, 12)))  # health stored, beliefs lost
    expected = keeping.total()
    keeping.begin()
    # delivered again in smaller batches, with a new one, and not in the order of offsets
    keeping.add(seen(6), seen(8))
    keeping.add(seen(5), seen(7))
    np.testing.assert_array_equal(keeping.total(), expected)
    keeping.add(seen(12), seen(9))
    keeping.add(seen(10), seen(11), seen(13))
    assert keeping.total()[0, Sum.COUNT] == 14
    # once committed, old offsets need no longer be kept
    keeping.committed[TP("observations", 0)] = 14
    keeping.add(seen(14))
    whole, newest = keys_of(0, "radar")
    record = load(keeping.store.read(0, whole), keeping.store.read(0, newest))
    assert record is not None
    assert record.counted.tolist() == [14]


def test_what_a_failed_batch_counted_is_not_kept(keeping: Keeping) -> None:
    keeping.add(seen(0), seen(1))
    keeping.keeper.add(fitted(seen(2), seen(3)), LEASES)  # its changes are not stored
    keeping.add(seen(2), seen(3), seen(4))
    assert keeping.total()[:, Sum.COUNT].tolist() == [5.0]


def test_a_summary_is_sent_once_in_a_block_of_event_time(keeping: Keeping) -> None:
    sent = [len(keeping.add(seen(offset)).summaries) for offset in range(12)]
    assert sent == [1, 0, 0, 0] * 3  # four observations a second, which is a block here


def test_a_summary_has_all_that_a_reader_needs(keeping: Keeping) -> None:
    keeping.add(*(seen(offset, score=1.5) for offset in range(400)))
    (record,) = keeping.add(*(seen(offset, score=1.5) for offset in range(400, 404))).summaries
    assert (record.topic, record.partition, record.key) == ("sensor-health", 0, b"radar")
    assert cloudevents.parse(record.headers)["type"] == cloudevents.SENSOR_HEALTH
    (message,) = messages([record])
    assert (message.verdict, message.channels[0].verdict) == ("biased", "biased")
    bias = message.channels[0].bias
    assert bias is not None
    assert bias == pytest.approx(1.5 * 0.7, rel=1e-6)
    np.testing.assert_allclose(window_of(message).total(), keeping.total())


def test_readers_add_partitions_and_leave_out_earlier_definitions(keeping: Keeping) -> None:
    one = messages(keeping.add(*(seen(offset) for offset in range(40))).summaries)
    other = messages(keeping.add(*(seen(offset, partition=1) for offset in range(20, 60))).summaries)
    found = judged([*one, *other])
    assert found["radar"].assessment.channels[0].count == 80
    keeping.definitions.sensors["radar"] = RADAR.model_copy(update={"bias": 1.0})
    changed = messages(keeping.add(*(seen(offset) for offset in range(60, 64))).summaries)
    found = judged([*one, *other, *changed])
    assert found["radar"].assessment.channels[0].count == 4
    assert keeping.total()[0, Sum.COUNT] == 4


def test_a_sensor_that_stops_is_silent_when_others_go_on(keeping: Keeping) -> None:
    both = [seen(offset, sensor) for offset in range(0, 400, 4) for sensor in ("radar", "gps")]
    first = messages(keeping.add(*both).summaries)
    alone = messages(keeping.add(*(seen(offset, "gps") for offset in range(400, 1000, 4))).summaries)
    found = judged([message for message in first if message.sensor == "radar"] + alone)
    assert found["radar"].assessment.verdict == "silent"
    assert found["radar"].assessment.silence == pytest.approx(150.0)
    assert found["gps"].assessment.verdict != "silent"


@pytest.mark.parametrize(("ago", "expected"), [(0.0, "healthy"), (100.0, "silent")])
def test_a_sensor_of_a_partition_that_is_behind_is_not_silent(
    keeping: Keeping, ago: float, expected: str
) -> None:
    """Only once that partition has had nothing for as long as the sensor may pause."""
    first = messages(
        keeping.add(*(seen(offset, score=(-1.0) ** offset) for offset in range(0, 400))).summaries
    )
    ahead = [seen(offset, "gps", partition=1) for offset in range(0, 1000, 4)]
    found = judged([*first, *messages(keeping.add(*ahead).summaries)], {0: 5000.0 - ago, 1: 5000.0})
    assert found["radar"].assessment.verdict == expected
    assert found["radar"].assessment.silence == pytest.approx(ago, abs=1.0)


def test_observations_of_removed_sensors_are_left_out(keeping: Keeping) -> None:
    del keeping.definitions.sensors["radar"]
    changes = keeping.add(seen(1), seen(2, "gps"))
    assert [message.sensor for message in messages(changes.summaries)] == ["gps"]


def test_most_batches_write_one_block_of_a_sensor(keeping: Keeping) -> None:
    keeping.add(*(seen(offset) for offset in range(2000)))
    made = [keeping.add(seen(offset)).entries[0].values() for offset in range(2001, 2004)]
    sizes = [sum(len(raw) for raw in values if raw is not None) for values in made]
    assert max(sizes[1:]) < 400 < sizes[0]  # the first is in a new block
