"""What a reset does to an entity's part of a batch, without a broker, through the record's bytes after every batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Posterior, Reason, Reset, Unusable
from beliefstream.streams.state.codec import decode_belief
from beliefstream.streams.state.record import BeliefRecord, StoredMessage
from beliefstream.streams.worker.batch_validation import forget
from beliefstream.streams.worker.entity_batch import EntityBatch
from tests.streams.entity_batches import MODEL, batch, read, reasons, run, seen, stated
from tests.streams.oracle import updater as shared_updater

RESET = Reset(entity="e", reset=True, time=20.0)
FAR = 30 * 365.25 * 86400.0  # seconds


@pytest.fixture(scope="module")
def updater() -> Updater:
    return shared_updater()


def again(record: BeliefRecord) -> BeliefRecord:
    """As another worker reads it."""
    return BeliefRecord.decode(record.encode())


def after_reset(record: BeliefRecord, reset: Reset = RESET, before: int | None = None) -> EntityBatch:
    """A batch in which a reset has been read, and nothing else yet."""
    entity = EntityBatch(b"e", 0, again(record), is_known=True)
    forget(entity, reset, before, read)
    entity.set_model(MODEL)
    return entity


def mixtures(posteriors: Sequence[Posterior]) -> list[object]:
    return [posterior.mixture for posterior in posteriors]


def test_an_entity_that_a_time_in_the_future_has_deafened_hears_again(updater: Updater) -> None:
    first = batch(seen(1.0), seen(FAR))
    run(updater, first)
    deaf = batch(seen(2.0), stated(2.0), record=again(first.record), first=102)
    run(updater, deaf)
    assert [reason.value for _, reason in reasons(deaf)] == ["late", "late"]
    cured = after_reset(deaf.record)
    assert run(updater, cured) == []
    found = run(updater, batch(seen(2.0), seen(3.0), record=again(cured.record), first=104))
    assert mixtures(found) == mixtures(run(updater, batch(seen(2.0), seen(3.0))))
    assert [each.sequence for each in found] == [4, 5]  # two observations and the reset came before


def test_a_reset_forgets_the_accumulated_error(updater: Updater) -> None:
    first = batch(seen(1.0))
    run(updater, first)
    newest = first.record.past.moments[-1]
    belief = decode_belief(newest.state)
    assert belief is not None
    newest.state = replace(belief, error=AccumulatedError(0.0, 5.0, 0.0))
    (known,) = run(updater, batch(seen(2.0), record=again(first.record), first=101))
    assert known.quality.accumulated_error is not None
    assert known.quality.accumulated_error > 0.5
    cured = after_reset(again(first.record))
    (found,) = run(updater, batch(seen(2.0), record=again(cured.record), first=102))
    (fresh,) = run(updater, batch(seen(2.0)))
    assert found.quality == fresh.quality


def test_what_is_older_than_all_before_the_reset_is_used_after_it(updater: Updater) -> None:
    first = batch(seen(100.0))
    run(updater, first)
    later = batch(seen(5.0), record=again(after_reset(first.record).record), first=101)
    assert [each.time for each in run(updater, later)] == [5.0]


def test_priors_that_wait_and_what_came_in_the_same_batch_are_forgotten(updater: Updater) -> None:
    first = batch(seen(1.0), stated(50.0))
    run(updater, first)
    assert first.record.pending
    entity = batch(seen(2.0), stated(2.5), record=again(first.record), first=110)
    assert forget(entity, RESET, None, read) == 1
    assert run(updater, entity) == []
    assert (entity.record.pending, entity.record.has_belief) == ([], False)
    found = run(updater, batch(seen(60.0), record=again(entity.record), first=112))
    assert mixtures(found) == mixtures(run(updater, batch(seen(60.0))))
    assert found[0].prior_sequence == 0


def test_what_lies_behind_the_place_of_the_reset_and_was_read_before_it_stays(updater: Updater) -> None:
    first = batch(seen(1.0, 0.0), seen(2.0, 3.0), seen(3.0, 5.0))  # offsets 100 to 102
    run(updater, first)
    entity = batch(seen(3.5, 1.0), record=again(first.record), first=103)
    assert forget(entity, RESET, 101, read) == 0
    found = run(updater, entity)
    expected = run(updater, batch(seen(2.0, 3.0), seen(3.0, 5.0), seen(3.5, 1.0)))
    assert mixtures(found) == mixtures(expected[1:])
    # the newest of those read before is sent again, and says that it was another one before
    assert [(each.time, each.sequence, each.revision, each.applied) for each in found] == [
        (3.0, 4, 1, ()),
        (3.5, 5, 1, ("3",)),
    ]


def test_what_was_read_before_and_cannot_be_read_any_more_is_left_out(updater: Updater) -> None:
    first = batch(seen(1.0), seen(2.0))
    run(updater, first)
    entity = EntityBatch(b"e", 0, again(first.record), is_known=True)

    def unreadable(key: bytes, kept: StoredMessage) -> tuple[object, str]:
        raise Unusable(Reason.unknown_sensor, "sensor: gone")

    forget(entity, RESET, 100, unreadable)  # type: ignore[arg-type]
    entity.set_model(MODEL)
    assert run(updater, entity) == []
    assert not entity.record.has_belief


@pytest.mark.parametrize("before", [None, 0, 50])
def test_who_is_not_known_can_be_reset_any_number_of_times(updater: Updater, before: int | None) -> None:
    record = BeliefRecord()
    for number in range(3):
        entity = after_reset(record, RESET.model_copy(update={"id": f"r-{number}"}), before)
        assert run(updater, entity) == []
        assert entity.should_store  # or it would be applied again
        record = again(entity.record)
    assert (record.resets, record.sequence, record.belief, record.has_belief) == (3, 3, None, False)
    assert record.reset_ids == ("r-0", "r-1", "r-2")
    assert (record.last_emitted, record.past.newest) == (-math.inf, -math.inf)
    assert [each.sequence for each in run(updater, batch(seen(1.0), record=record))] == [4]


def test_several_resets_in_one_batch_keep_what_lies_behind_the_last(updater: Updater) -> None:
    first = batch(seen(1.0, 0.0), seen(2.0, 3.0), seen(3.0, 5.0))
    run(updater, first)
    entity = EntityBatch(b"e", 0, again(first.record), is_known=True)
    forget(entity, RESET, 101, read)
    forget(entity, RESET, 102, read)
    entity.set_model(MODEL)
    found = run(updater, entity)
    assert mixtures(found) == mixtures(run(updater, batch(seen(3.0, 5.0))))
    assert entity.record.forgotten_before == 102


def test_the_ids_of_the_last_resets_are_remembered() -> None:
    record = BeliefRecord()
    for number in range(100):
        record.reset(f"r-{number}", number)
    found = again(record)
    assert found.reset_ids == tuple(f"r-{number}" for number in range(84, 100))
    assert (found.resets, found.forgotten_before) == (100, 99)
