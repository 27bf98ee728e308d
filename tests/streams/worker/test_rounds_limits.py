"""What an entity's record may hold: priors that wait, messages of one time, and the past, in number and in bytes."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from beliefstream.inference.sensors import PersistentError, Reading, with_errors
from beliefstream.inference.tracking.events import Event
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Reason
from beliefstream.streams.kafka.topics import MESSAGE_BYTES, TopicNames
from beliefstream.streams.state.record import BeliefRecord
from beliefstream.streams.worker import entity_batch
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.rounds import run_rounds
from tests.streams.entity_batches import MODEL, SENSOR, batch, read, reasons, run, seen, stated
from tests.streams.oracle import updater as shared_updater


@pytest.fixture(scope="module")
def updater() -> Updater:
    return shared_updater()


def test_no_more_priors_wait_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entity_batch, "MOST_WAITING", 3)
    entity = batch(*(stated(float(time)) for time in range(1, 5)))
    entity.plan(read, 256)
    assert reasons(entity) == [(103, Reason.future)]
    assert [offset for offset, _ in entity.record.pending] == [100, 101, 102]


def test_priors_that_wait_are_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    one = batch(stated(1.0))
    monkeypatch.setattr(entity_batch, "WAITING_BYTES", 2 * len(one.entries[0].message.value) + 1)
    entity = batch(*(stated(float(time)) for time in range(1, 5)))
    entity.plan(read, 256)
    assert reasons(entity) == [(102, Reason.future), (103, Reason.future)]


def test_messages_of_one_time_are_bounded_however_many_batches_they_come_in(
    updater: Updater, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device whose clock stands still: the first are applied, the others refused, and other times go on."""
    monkeypatch.setattr(entity_batch, "MOST_OF_ONE_TIME", 3)
    entity = batch(seen(1.0), seen(1.0))
    run(updater, entity)
    entity = batch(*(seen(1.0) for _ in range(3)), seen(2.0), record=entity.record, first=200)
    posteriors = run(updater, entity)
    assert [reason for _, reason in reasons(entity)] == [Reason.too_large] * 2
    assert entity.record.sequence == 4
    assert [posterior.time for posterior in posteriors] == [1.0, 2.0]


@pytest.mark.parametrize("cut", range(1, 6))
def test_which_messages_of_one_time_are_too_many_does_not_hang_on_the_batches(
    updater: Updater, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    """Those sent twice are not counted, nor those refused."""
    monkeypatch.setattr(entity_batch, "MOST_OF_ONE_TIME", 3)
    entity = batch(*(seen(1.0) for _ in range(6)))
    for entry, name in zip(entity.entries, "aabbcd", strict=True):
        entry.id = name
    sent, record, refused = list(entity.entries), BeliefRecord(), []
    for part in (sent[:cut], sent[cut:]):
        entity = EntityBatch(b"e", 0, record, entries=part)
        entity.set_model(MODEL)
        entity.plan(lambda key, kept: (read(key, kept)[0], "aabbcd"[kept.offset - 100]), 256)
        run_rounds([entity], updater, TopicNames(), "tests")
        refused += reasons(entity)
        record = BeliefRecord.decode(entity.record.encode())
    assert refused == [(105, Reason.too_large)]
    assert record.sequence == 3


def test_sensors_with_more_errors_than_an_entity_has_are_refused_by_name(updater: Updater) -> None:
    def lasting(number: int) -> Event:
        sensor = with_errors(SENSOR, PersistentError(f"s{number}/x", 0.5, 20.0))
        return Event("e", 1.0, reading=Reading(sensor, np.array([1.0, 2.0])))

    entity = batch(*map(lasting, range(66)), lasting(3), seen(1.0), seen(2.0))
    assert [posterior.time for posterior in run(updater, entity)] == [1.0, 2.0]
    assert reasons(entity) == [(164, Reason.too_large), (165, Reason.too_large)]
    assert entity.rejected[0].detail == (
        "sensor: sensors at the time 1.0 already have 64 errors that last; one update takes at most 64, and this one "
        "adds s64/x"
    )


def test_a_record_fits_into_its_changelog_whatever_is_padded(updater: Updater) -> None:
    record = BeliefRecord()
    for turn in range(4):
        entity = batch(*(stated(turn + 1.0) for _ in range(31)), seen(turn + 1.0), record=record)
        for entry in entity.entries:
            entry.message = replace(entry.message, value=entry.message.value + b" " * 900_000)
        run(updater, entity)
        again = batch(*(stated(turn + 2.0) for _ in range(8)), record=entity.record)
        for entry in again.entries:
            entry.message = replace(entry.message, value=entry.message.value + b" " * 900_000)
        run(updater, again)
        record = BeliefRecord.decode(again.record.encode())
        assert len(again.record.encode()) < MESSAGE_BYTES
    assert entity_batch.WAITING_BYTES + entity_batch.PAST_BYTES + 3 * entity_batch.MEBIBYTE < MESSAGE_BYTES


def test_a_past_of_many_bytes_is_shortened(updater: Updater, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entity_batch, "PAST_BYTES", 1)
    entity = batch(*(seen(1.0 + 0.1 * step) for step in range(8)))
    run(updater, entity)
    assert len(entity.record.past.moments) < 8
    later = batch(seen(3.0), record=BeliefRecord.decode(entity.record.encode()))
    assert [posterior.time for posterior in run(updater, later)] == [3.0]
