"""A batch's entities through event time, without a broker."""

from __future__ import annotations

import numpy as np
import pytest

from beliefstream.inference.tracking.events import Belief, Event
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Posterior, Reason, Unusable, parse
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.record import BeliefRecord, StoredMessage, unpack
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.rounds import run_rounds
from tests.streams.entity_batches import MODEL, batch, read, reasons, run, seen, stated
from tests.streams.oracle import updater as shared_updater


@pytest.fixture(scope="module")
def updater() -> Updater:
    return shared_updater()


def test_events_are_applied_in_order_of_their_time(updater: Updater) -> None:
    entity = batch(seen(3.0), seen(1.0), stated(2.0), seen(2.0))
    posteriors = run(updater, entity)
    assert [(each.time, each.applied) for each in posteriors] == [
        (1.0, ("1",)),
        (2.0, ()),  # a prior comes before what was observed at its time
        (2.0, ("3",)),
        (3.0, ("0",)),
    ]
    assert [each.sequence for each in posteriors] == [1, 2, 3, 4]
    assert [each.prior_sequence for each in posteriors] == [0, 1, 1, 1]
    kept = [message.offset for moment in entity.record.past.moments for message in unpack(moment.content)]
    assert sorted(kept) == [100, 101, 102, 103]


def implausible(sensor: str) -> float:
    return metrics.REGISTRY.get_sample_value("beliefstream_implausible_total", {"sensor": sensor}) or 0.0


def test_what_lies_hundreds_of_deviations_off_is_counted_by_its_sensor_once(
    updater: Updater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_sensors", set())
    monkeypatch.setattr(metrics, "MOST_SENSORS", 2)

    def observed(*xs: tuple[float, str], first: int, record: BeliefRecord | None = None) -> EntityBatch:
        events = (seen(10.0 * first + number, x) for number, (x, _) in enumerate(xs))
        entity = batch(*events, record=record, first=first)
        for entry, (_, sensor) in zip(entity.entries, xs, strict=True):
            entry.sensor = sensor
        run(updater, entity)
        return entity

    before = implausible("other")
    # the first is within what the model's prior allows
    entity = observed((90.0, "far-a"), (90.0, "far-a"), (1e6, "far-b"), first=1)
    assert (implausible("far-a"), implausible("far-b")) == (0.0, 1.0)
    entity = observed((-1e9, "far-c"), (1e12, "far-d"), first=5, record=entity.record)
    assert (implausible("far-c"), implausible("far-d")) == (1.0, 0.0)
    assert implausible("other") == before + 1
    # a late one has what came since applied again, which is not counted again
    late = batch(seen(50.5, -1e9), record=entity.record, first=9)
    late.entries[0].sensor = "far-c"
    assert run(updater, late)[0].revision == 1
    assert implausible("other") == before + 1


def test_of_readings_of_one_time_only_the_one_far_off_is_counted(
    updater: Updater, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_sensors", set())
    entity = batch(seen(1.0, 3.0), seen(2.0, 3.0), seen(2.0, -1e5), seen(2.0, 3.5))
    for number, entry in enumerate(entity.entries):
        entry.sensor = f"together-{number}"
    run(updater, entity)
    assert [implausible(f"together-{number}") for number in range(4)] == [0.0, 0.0, 1.0, 0.0]


def test_what_lies_before_the_window_is_late_and_left_out(updater: Updater) -> None:
    first = batch(seen(5.0))
    run(updater, first)
    entity = batch(seen(2.9), seen(3.0), stated(1.0), seen(6.0), seen(3.9), record=first.record)
    posteriors = run(updater, entity)
    assert reasons(entity) == [(100, Reason.late), (102, Reason.late), (104, Reason.late)]
    assert [each.applied for each in posteriors] == [("1",), ("3",)]


def test_a_late_observation_changes_the_past_and_says_so(updater: Updater) -> None:
    events = [seen(1.0, 0.0), seen(2.0, 1.0), seen(3.0, 4.0), seen(1.5, -1.0), seen(4.0, 4.0)]
    in_order = batch(*sorted(events, key=lambda event: event.time))
    expected = run(updater, in_order)
    first = batch(*events[:3])
    assert [each.revision for each in run(updater, first)] == [0, 0, 0]
    again = BeliefRecord.decode(first.record.encode())  # as another worker reads it
    late = batch(*events[3:], record=again, first=103)
    posteriors = run(updater, late)
    assert [(each.time, each.sequence, each.revision, each.applied) for each in posteriors] == [
        (3.0, 4, 1, ("3",)),
        (4.0, 5, 1, ("4",)),
    ]
    assert [each.mixture for each in posteriors] == [each.mixture for each in expected[-2:]]
    kept = [message.offset for moment in late.record.past.moments for message in unpack(moment.content)]
    assert kept[-3:] == [101, 102, 104]


def test_observations_of_one_time_are_one_update_whenever_they_come(updater: Updater) -> None:
    together = run(updater, batch(seen(1.0), seen(2.0, 1.0), seen(2.0, 5.0)))
    assert [each.applied for each in together] == [("0",), ("1", "2")]
    assert [each.sequence for each in together] == [1, 3]
    first = batch(seen(1.0), seen(2.0, 5.0))
    run(updater, first)
    later = run(updater, batch(seen(2.0, 1.0), record=first.record, first=102))
    assert [(each.time, each.revision, each.sequence, each.applied) for each in later] == [
        (2.0, 1, 3, ("2",))
    ]
    assert later[0].mixture == together[-1].mixture
    assert later[0].quality == together[-1].quality


def test_a_late_prior_goes_to_its_time(updater: Updater) -> None:
    expected = run(updater, batch(seen(1.0), stated(1.5), seen(2.0), seen(3.0)))[-1]
    first = batch(seen(1.0), seen(2.0), seen(3.0))
    run(updater, first)
    found = run(updater, batch(stated(1.5), record=first.record, first=7))
    assert [(each.time, each.prior_sequence, each.applied) for each in found] == [(3.0, 1, ())]
    assert found[0].mixture == expected.mixture


def test_what_can_no_longer_be_read_leaves_the_past_with_its_reason(updater: Updater) -> None:
    first = batch(seen(1.0), seen(2.0, 50.0), seen(3.0))
    run(updater, first)

    def without_the_second(key: bytes, kept: StoredMessage) -> tuple[Event, str]:
        if kept.offset == 101:
            raise Unusable(Reason.unknown_sensor, "sensor: gone")
        return read(key, kept)

    later = batch(seen(1.5), record=first.record, first=103)
    later.plan(without_the_second, 256)
    found = parse(Posterior, run_rounds([later], updater, TopicNames(), "tests")[-1].value)
    assert reasons(later) == [(101, Reason.unknown_sensor)]
    assert found.mixture == run(updater, batch(seen(1.0), seen(1.5), seen(3.0)))[-1].mixture


def test_a_late_observation_that_fails_leaves_those_of_its_time(updater: Updater) -> None:
    first = batch(seen(1.0), seen(2.0), seen(3.0))
    before = run(updater, first)[-1]
    entity = batch(seen(2.0, 1e300), record=first.record, first=103)
    assert run(updater, entity) == []
    assert reasons(entity) == [(103, Reason.numerical)]
    belief = first.record.belief
    assert belief is not None
    assert np.array_equal(belief.means, before.mixture.means)


def test_a_prior_waits_for_an_observation_at_or_after_its_time(updater: Updater) -> None:
    entity = batch(stated(5.0), seen(1.0), stated(9.0))
    assert [each.applied for each in run(updater, entity)] == [("1",)]
    assert [offset for offset, _ in entity.record.pending] == [100, 102]

    again = BeliefRecord.decode(entity.record.encode())  # as another worker reads it
    entity = batch(seen(2.0), seen(5.0), record=again)
    posteriors = run(updater, entity)
    assert [(each.time, each.quality.method) for each in posteriors] == [
        (2.0, "kalman"),
        (5.0, "prior"),
        (5.0, "kalman"),
    ]
    assert [offset for offset, _ in entity.record.pending] == [102]


def test_a_waiting_prior_that_no_longer_fits_its_model_is_lost_with_its_reason(updater: Updater) -> None:
    entity = batch(stated(5.0))
    entity.plan(read, 256)
    later = batch(seen(6.0), record=entity.record)

    def refuse(key: bytes, kept: StoredMessage) -> tuple[Event, str]:
        raise Unusable(Reason.wrong_length, "mixture: the model has 2 coordinates")

    later.plan(refuse, 256)
    assert reasons(later) == [(100, Reason.wrong_length)]
    assert later.record.pending == []


def test_a_belief_over_other_coordinates_is_given_up() -> None:
    old = Belief(9.0, np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    entity = EntityBatch(b"e", 0, BeliefRecord.of(old, ("x",), sequence=4))
    entity.set_model(MODEL)
    assert entity.record.belief is None
    assert entity.record.coordinates == MODEL.message.coordinate_names
    assert entity.record.sequence == 4  # readers go on counting


def test_an_entity_known_from_bad_messages_only_is_not_kept() -> None:
    entity = EntityBatch(b"e", 0, BeliefRecord())
    assert entity.begin(17, is_prior=False)
    assert not entity.should_store
    assert not entity.begin(17, is_prior=False)
    assert entity.begin(18, is_prior=False)
    assert entity.begin(0, is_prior=True)
