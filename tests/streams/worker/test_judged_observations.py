"""What a batch has judged, by sensor and partition: each new observation once, with its own fits."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.sensors import Reading, Sensor
from beliefstream.inference.tracking.events import Event, Instant
from beliefstream.inference.tracking.health.columns import Array, Fit
from beliefstream.inference.tracking.health.sums import terms
from beliefstream.inference.tracking.health.windows import entity_bit
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.worker.entity_batch import EntityBatch, Entry
from beliefstream.streams.worker.rounds import Fitted, by_sensor

PLACE = Sensor(LINEAR, np.eye(2), np.zeros(2), np.eye(2))
MADE = {"place": PLACE, "x": PLACE.channels[0], "y": PLACE.channels[1]}
Reports = list[list[tuple[str, bool]]]
Applied = tuple[EntityBatch, Instant, Array]  # with the fits of its readings


def batch(number: int, reports: Reports, random: np.random.Generator) -> list[Applied]:
    """The instants of an entity; of each report the sensor, and whether the belief had it before."""
    entity = EntityBatch(b"cart-%d" % number, number % 2, BeliefRecord())
    found = []
    for instant in reports:
        time, labels = float(random.uniform(0, 100)), []
        readings = tuple(Reading(MADE[sensor], np.zeros(MADE[sensor].value_length)) for sensor, _ in instant)
        for (sensor, is_applied), reading in zip(instant, readings, strict=True):
            labels.append(len(entity.entries))
            message = StoredMessage(False, int(random.integers(2**40)), b"")
            entity.entries.append(
                Entry(Event("", time, reading), message, is_applied=is_applied, sensor=sensor)
            )
        rows = sum(reading.sensor.value_length for reading in readings)
        fits = random.uniform(0.1, 0.9, (rows, len(Fit)))
        found.append((entity, Instant(time, readings, labels=tuple(labels)), fits))
    return found


def one_by_one(applied: list[Applied]) -> dict[tuple[int, str], list[tuple[float, int, int, Array]]]:
    """Time, offset, entity and terms of the new observations, by partition and sensor."""
    found: dict[tuple[int, str], list[tuple[float, int, int, Array]]] = {}
    for entity, instant, fits in applied:
        start = 0
        for label, reading in zip(instant.labels, instant.readings, strict=True):
            end, entry = start + reading.sensor.value_length, entity.entries[label]
            if not entry.is_applied:
                row = (instant.time, entry.message.offset, entity_bit(entity.key), terms(fits[start:end]))
                found.setdefault((entity.partition, entry.sensor), []).append(row)
            start = end
    return found


@given(
    st.lists(
        st.lists(st.lists(st.tuples(st.sampled_from(sorted(MADE)), st.booleans()), max_size=3), max_size=4),
        max_size=4,
    ),
    st.integers(0, 2**32 - 1),
)
def test_every_new_observation_is_in_the_group_of_its_sensor_and_partition(
    entities: list[Reports], seed: int
) -> None:
    random = np.random.default_rng(seed)
    applied = [each for number, reports in enumerate(entities) for each in batch(number, reports, random)]
    fitted = Fitted()
    for each in applied:
        fitted.add(*each)
    expected, found = one_by_one(applied), list(by_sensor(fitted))
    assert [(each.partition, each.sensor) for each in found] == list(expected)
    for judged, rows in zip(found, expected.values(), strict=True):
        times, offsets, bits, added = zip(*rows, strict=True)
        np.testing.assert_array_equal(judged.times, times)
        np.testing.assert_array_equal(judged.offsets, offsets)
        np.testing.assert_allclose(judged.terms, np.stack(added), rtol=1e-12)
        assert (judged.newest, judged.entities) == (max(times), int(np.bitwise_or.reduce(bits)))
