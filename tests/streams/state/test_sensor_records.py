"""The stored health of a sensor: both records, in the states that a crash can leave."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.tracking.health.columns import WIDTH
from beliefstream.inference.tracking.health.windows import Window
from beliefstream.streams.state.record import INTERNAL
from beliefstream.streams.state.sensor_records import (
    SensorRecord,
    counted_in,
    keys_of,
    load,
    sensor_of,
    without_offsets,
)

DEFINITION = b"12345678"


def record(times: int = 300) -> SensorRecord:
    window = Window(256.0, 2)
    random = np.random.default_rng(0)
    for time in range(times):
        window.add(np.array([time + 0.25]), random.normal(size=(1, 2, WIDTH)))
    return SensorRecord(window, DEFINITION, np.array([3, 2**40]), 17)


def assert_same(found: SensorRecord | None, expected: SensorRecord) -> None:
    assert found is not None
    assert [(b.start, b.length) for b in found.window.blocks] == [
        (b.start, b.length) for b in expected.window.blocks
    ]
    for one, other in zip(found.window.blocks, expected.window.blocks, strict=True):
        np.testing.assert_array_equal(one.sums, other.sums)
    window, others = found.window, expected.window
    for name in ("seconds", "channels", "first", "newest", "longest_gap", "too_old"):
        assert getattr(window, name) == getattr(others, name)
    assert found.counted.tolist() == expected.counted.tolist()
    assert (found.definition, found.published, found.edition) == (
        expected.definition,
        expected.published,
        expected.edition,
    )


def test_a_record_comes_back_without_loss_also_without_observations() -> None:
    for made in (record(), SensorRecord(Window(1.5, 1), DEFINITION)):
        raw = made.whole()
        assert_same(load(raw, None), made)
    assert load(None, None) is None
    assert math.isinf(SensorRecord(Window(1.5, 1), DEFINITION).window.newest)


def test_the_newest_block_replaces_that_of_its_whole_record_only() -> None:
    made = record()
    whole = made.whole()
    made.window.add(np.array([299.5]), np.ones((1, 2, WIDTH)))
    made.counted = np.array([9])
    newest = made.newest()
    assert len(newest) < len(whole) / 5
    assert_same(load(whole, newest), made)
    # a crash has kept the next whole record, and not what followed it
    made.window.add(np.array([300.5]), np.ones((1, 2, WIDTH)))
    later = made.whole()
    assert_same(load(later, newest), made)


def test_other_versions_and_damaged_records_start_again() -> None:
    raw = record().whole()
    for damaged in (b"", b"\x09" + raw[1:], raw[:-1], raw[:20], raw + b"x"):
        assert load(damaged, None) is None


def test_offsets_can_be_dropped_with_all_sums_kept() -> None:
    made = record()
    whole, newest = keys_of(4, "radar/1")
    entries = {whole: made.whole()}
    made.window.add(np.array([299.5]), np.ones((1, 2, WIDTH)))
    entries[newest] = made.newest()
    ((key, raw),) = without_offsets(entries.items())
    assert key == whole
    found = load(raw, entries[newest])
    made.counted = made.counted[:0]
    made.edition += 1
    assert_same(found, made)


@pytest.mark.parametrize("partition", [0, 12])
def test_keys_are_internal_and_of_one_sensor_in_one_partition(partition: int) -> None:
    keys = {key for sensor in ("a", "b", "1-a") for key in keys_of(partition, sensor)}
    assert len(keys) == 6
    assert all(key.startswith(INTERNAL) for key in keys)
    assert sorted(map(sensor_of, keys)) == ["1-a", "1-a", "a", "a", "b", "b"]


def test_counted_offsets_are_those_of_both_parts() -> None:
    made = record()
    made.counted = np.array([5, 9])
    whole = made.whole()
    made.window.add(np.array([299.5]), np.ones((1, 2, WIDTH)))
    made.counted = np.array([11])
    assert counted_in(whole, made.newest()).tolist() == [5, 9, 11]
    assert counted_in(whole, None).tolist() == [5, 9]


@pytest.mark.parametrize("raw", [None, b"", b"\x09" + b"\xff" * 200, record().whole()[:20]])
def test_what_cannot_be_read_has_no_counted_offsets(raw: bytes | None) -> None:
    assert counted_in(raw).tolist() == []
