"""The health of a removed sensor is forgotten, but not while its observations may be delivered again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faust
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from faust.types import TP

from beliefstream.inference.tracking.health.columns import Sum
from beliefstream.streams.kafka.producing import Lease, Record
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.sensor_records import PREFIX, keys_of
from beliefstream.streams.state.stores import BeliefStore
from beliefstream.streams.state.table import BeliefTable
from beliefstream.streams.worker import sensor_health
from tests.streams.worker.test_sensor_health import GPS, LEASES, RADAR, Keeping, fitted, memory_store, seen


def store_of(kind: str, directory: Path) -> BeliefStore:
    if kind == "memory":
        return memory_store()
    app = faust.App("app", broker="kafka://127.0.0.1:1", store="rocksdb://", Table=BeliefTable)

    async def topic() -> str:
        return "topic"

    options = {"directory": directory, "topic_id": topic}
    table: Any = app.Table("beliefs", key_type=bytes, value_type=bytes, partitions=2, options=options)
    store: BeliefStore = table.store
    places = {TP("app-beliefs-changelog", partition) for partition in LEASES}
    asyncio.run(store.on_rebalance(places, set(), places))
    return store


class Removing(Keeping):
    """A keeper whose sensors are defined and removed as by records of their topic."""

    searches = 0

    def begin(self) -> None:
        super().begin()
        internal = type(self.store).internal

        def counted(*arguments: Any) -> Any:
            self.searches += 1
            return internal(self.store, *arguments)

        self.store.internal = counted  # type: ignore[method-assign, assignment]

    def define(self, sensor: str) -> None:
        self._apply(sensor, RADAR.model_copy(update={"sensor": sensor}).to_json())

    def remove(self, *sensors: str) -> None:
        for sensor in sensors:
            self._apply(sensor, None)

    def _apply(self, sensor: str, value: bytes | None) -> None:
        record = ConsumerRecord("sensors", 0, 0, 0, 0, sensor.encode(), value, None, 0, 0, ())
        self.definitions.apply(record)

    def commit(self, offset: int) -> None:
        self.committed = {TP("observations", partition): offset for partition in LEASES}

    def stored(self, partition: int = 0) -> set[str]:
        """The sensors that have a record of either kind."""
        keys = (key for key, _ in self.store.internal(partition, PREFIX))
        return {key.removeprefix(PREFIX).split(b"-", 2)[2].decode() for key in keys}


@pytest.fixture(params=["memory", "disk"])
def removing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Removing]:
    made = Removing(store_of(request.param, tmp_path))
    yield made
    made.keeper._metrics.keep_partitions(())
    asyncio.run(made.store.on_stop())


def tombstones(records: list[Record]) -> list[tuple[str, int, bytes | None]]:
    return [(each.topic, each.partition, each.key) for each in records if each.value is None]


def test_it_is_forgotten_in_all_partitions_once_its_offsets_are_committed(removing: Removing) -> None:
    both = [seen(offset, partition=partition) for offset in range(8) for partition in LEASES]
    removing.add(*both, seen(8, "gps"))
    removing.add(seen(9, "radar"))  # so that it has a newest block of its own
    expected = removing.total("gps")
    removing.remove("radar")
    removing.commit(9)
    changes = removing.add(seen(10, "gps"))
    # the last one of partition 0 may be delivered again
    assert tombstones(changes.summaries) == [("sensor-health", 1, b"radar")]
    assert (removing.stored(0), removing.stored(1)) == ({"radar", "gps"}, set())
    removing.commit(10)
    changes = removing.add()  # a batch without observations
    assert tombstones(changes.summaries) == [("sensor-health", 0, b"radar")]
    # in this order: a crash in between leaves the one that another run looks for
    whole, newest = keys_of(0, "radar")
    assert list(changes.entries[0].items()) == [(newest, None), (whole, None)]
    assert removing.stored() == {"gps"}
    assert removing.total("gps")[0, Sum.COUNT] == expected[0, Sum.COUNT] + 1
    assert removing.add().summaries == []
    assert removing.add().entries == {}


def test_another_run_finds_what_an_earlier_one_has_left(removing: Removing) -> None:
    removing.add(seen(0), seen(1, partition=1), seen(2, "gps"))
    removing.remove("radar")
    removing.commit(3)
    removing.begin()
    found = [place for _ in LEASES for place in tombstones(removing.add().summaries)]
    assert found == [("sensor-health", partition, b"radar") for partition in LEASES]
    assert (removing.stored(0), removing.stored(1)) == ({"gps"}, set())


def test_a_partition_is_searched_once_for_each_lease_and_one_with_a_batch(removing: Removing) -> None:
    for expected in (1, 2, 2, 2):
        removing.add(seen(0))
        assert removing.searches == expected
    other = {**LEASES, 0: Lease("a", 1, 1)}
    for _ in range(3):
        removing.add(seen(0), leases=other)
    assert removing.searches == 3


def test_partitions_of_other_workers_are_left_alone(removing: Removing) -> None:
    removing.add(seen(0), seen(1, partition=1))
    removing.remove("radar")
    removing.commit(2)
    for _ in range(3):
        removing.add(leases={0: LEASES[0]})
    assert (removing.stored(0), removing.stored(1)) == (set(), {"radar"})


def test_many_are_forgotten_in_turn_and_one_that_must_stay_delays_no_other(
    removing: Removing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor_health, "MOST_AT_ONCE", 2)
    names = [f"gone-{number}" for number in range(6)]
    for name in names:
        removing.define(name)
    removing.add(*(seen(offset, name) for offset, name in zip((100, 1, 2, 3, 4, 5), names, strict=True)))
    removing.remove(*names)
    removing.commit(50)
    made = [len(tombstones(removing.add().summaries)) for _ in range(12)]
    assert max(made) == 2
    assert sum(made) == 5
    assert removing.stored() == {"gone-0"}


def test_a_sensor_that_is_defined_again_starts_again(removing: Removing) -> None:
    removing.add(*(seen(offset) for offset in range(8)))
    removing.remove("radar")
    removing.commit(8)
    removing.add()
    removing.define("radar")
    changes = removing.add(seen(8))
    assert [record.value is None for record in changes.summaries] == [False]
    assert removing.total()[:, Sum.COUNT].tolist() == [1.0]
    for _ in range(3):
        assert tombstones(removing.add().summaries) == []
    assert removing.total()[:, Sum.COUNT].tolist() == [1.0]


def test_a_sensor_that_is_defined_again_before_goes_on(removing: Removing) -> None:
    removing.add(*(seen(offset) for offset in range(8)))
    removing.remove("radar")
    removing.add()
    removing._apply("radar", RADAR.to_json())
    removing.commit(8)
    removing.add(seen(8))
    assert removing.total()[:, Sum.COUNT].tolist() == [9.0]


def test_redelivered_observations_are_not_counted_twice_when_a_sensor_comes_back(removing: Removing) -> None:
    removing.add(*(seen(offset) for offset in range(8)))
    removing.remove("radar")
    removing.commit(7)
    removing.begin()
    removing.add()
    removing._apply("radar", RADAR.to_json())
    removing.add(*(seen(offset) for offset in range(9)))
    assert removing.total()[:, Sum.COUNT].tolist() == [9.0]


def test_what_a_failed_batch_was_to_forget_is_forgotten_by_the_next(removing: Removing) -> None:
    removing.add(seen(0))
    removing.remove("radar")
    removing.commit(1)
    failed = removing.keeper.add(fitted(), LEASES)  # its changes are not stored
    changes = removing.add()
    assert tombstones(failed.summaries) == tombstones(changes.summaries) == [("sensor-health", 0, b"radar")]
    assert removing.stored() == set()


def test_a_record_that_cannot_be_read_is_forgotten_too(removing: Removing) -> None:
    removing.add(seen(0))
    key = next(key for key, _ in removing.store.internal(0, PREFIX))
    removing.store.write(0, {key: b"\xff of a later version"}, removing.written[0] - 1, 0)
    removing.remove("radar")
    removing.add()
    assert removing.stored() == set()


def test_its_metrics_go(removing: Removing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_sensors", set())

    def newest(sensor: str) -> float | None:
        return metrics.REGISTRY.get_sample_value("beliefstream_sensor_newest_seconds", {"sensor": sensor})

    removing.add(seen(0), seen(1, partition=1), seen(2, "gps"))
    removing.keeper.show()
    assert newest("radar") == pytest.approx(1e9, abs=1)
    removing.remove("radar")
    removing.commit(3)
    removing.add()
    removing.keeper.show()
    assert newest("radar") is None
    assert newest("gps") is not None


def test_devices_that_come_and_go_leave_nothing(removing: Removing) -> None:
    for number in range(60):
        removing.define(f"device-{number}")
        removing.add(seen(2 * number, f"device-{number}"), seen(2 * number + 1, "gps", partition=1))
        removing.commit(2 * number + 2)
        removing.remove(f"device-{number}")
    removing.add()
    removing.add()
    assert removing.stored() == set()
    keeper = removing.keeper
    assert {sensor for _, sensor in (*keeper._decoded, *keeper._inherited)} == {"gps"}
    assert len(keeper._digests) <= 2 * 3
    assert {name for names in keeper._removed._stored.values() for name in names} == {"gps"}
    assert keeper._removed._waiting == {}
    np.testing.assert_array_equal(removing.total("gps", 1)[:, Sum.COUNT], [60.0, 60.0])
    assert removing.definitions.sensors.keys() == {RADAR.sensor, GPS.sensor}
