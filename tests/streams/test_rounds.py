"""A batch's entities through event time, without a broker."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from inference.events import Belief, Event, PriorChange
from inference.memory import OutOfMemory
from inference.sensors import Reading
from inference.update import Updater
from schemas import Mixture, PositionSensor, Posterior, Reason, Unusable, parse
from streams import entities, metrics
from streams.beliefs import BeliefRecord, Kept, unpack
from streams.conversion import belief_of, sensor_over
from streams.entities import EntityBatch, Entry
from streams.registry import EntityModel
from streams.rounds import run_rounds
from streams.simulation import fleet_model
from streams.topics import MESSAGE_BYTES, TopicNames
from tests.streams.oracle import updater as shared_updater

MODEL = EntityModel(fleet_model())
SENSOR = sensor_over(PositionSensor(sensor="s", standard_deviation=1.0), MODEL.message.coordinate_names)
STATED = PriorChange(belief_of(Mixture.gaussian((5.0, 5.0, 0.0, 0.0), 1.0), 0.0))


@pytest.fixture(scope="module")
def updater() -> Updater:
    return shared_updater()


def seen(time: float, x: float = 1.0) -> Event:
    return Event("e", time, reading=Reading(SENSOR, np.array([x, 2.0])))


def stated(time: float, change: PriorChange = STATED) -> Event:
    return Event("e", time, prior=change)


def batch(
    *events: Event, record: BeliefRecord | None = None, key: bytes = b"e", first: int = 100
) -> EntityBatch:
    """An entity's batch; the events have ids 0, 1, ... and offsets 100, 101, ..., or from `first` on."""
    entity = EntityBatch(key, 0, record or BeliefRecord())
    for number, event in enumerate(events):
        kind = "prior" if event.prior is not None else "seen"
        x = float(event.reading.value[0]) if event.reading is not None else 0.0
        value = json.dumps({"kind": kind, "time": event.time, "x": x}).encode()
        is_prior = event.prior is not None
        entry = Entry(
            event, Kept(is_prior, first + number, value), "" if is_prior else str(first - 100 + number)
        )
        entity.accept(entry)
    entity.use(MODEL)
    return entity


def read(key: bytes, kept: Kept) -> tuple[Event, str]:
    """Reads a message back that `batch` has made, and which had no id of its sender's."""
    content = json.loads(kept.value)
    return stated(content["time"]) if kept.is_prior else seen(content["time"], content["x"]), ""


def run(updater: Updater, *entities: EntityBatch) -> list[Posterior]:
    for entity in entities:
        entity.plan(read, 256)
    records = run_rounds(entities, updater, TopicNames(), "tests")
    for entity in entities:
        entity.tidy(256)
    return [parse(Posterior, record.value) for record in records]


def reasons(entity: EntityBatch) -> list[tuple[int, Reason]]:
    return [(rejected.message.offset, rejected.reason) for rejected in entity.rejected]


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
    assert sorted(entry.message.offset for entry in entity.applied) == [100, 101, 102, 103]


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

    def without_the_second(key: bytes, kept: Kept) -> tuple[Event, str]:
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


def test_no_more_priors_wait_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "MOST_WAITING", 3)
    entity = batch(*(stated(float(time)) for time in range(1, 5)))
    entity.plan(read, 256)
    assert reasons(entity) == [(103, Reason.future)]
    assert [offset for offset, _ in entity.record.pending] == [100, 101, 102]


def test_priors_that_wait_are_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    one = batch(stated(1.0))
    monkeypatch.setattr(entities, "WAITING_BYTES", 2 * len(one.entries[0].message.value) + 1)
    entity = batch(*(stated(float(time)) for time in range(1, 5)))
    entity.plan(read, 256)
    assert reasons(entity) == [(102, Reason.future), (103, Reason.future)]


def test_messages_of_one_time_are_bounded_however_many_batches_they_come_in(
    updater: Updater, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device whose clock stands still: the first are applied, the others refused, and other times go on."""
    monkeypatch.setattr(entities, "MOST_OF_ONE_TIME", 3)
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
    monkeypatch.setattr(entities, "MOST_OF_ONE_TIME", 3)
    entity = batch(*(seen(1.0) for _ in range(6)))
    for entry, name in zip(entity.entries, "aabbcd", strict=True):
        entry.id = name
    sent, record, refused = list(entity.entries), BeliefRecord(), []
    for part in (sent[:cut], sent[cut:]):
        entity = EntityBatch(b"e", 0, record, entries=part)
        entity.use(MODEL)
        entity.plan(lambda key, kept: (read(key, kept)[0], "aabbcd"[kept.offset - 100]), 256)
        run_rounds([entity], updater, TopicNames(), "tests")
        refused += reasons(entity)
        record = BeliefRecord.decode(entity.record.encode())
    assert refused == [(105, Reason.too_large)]
    assert record.sequence == 3


def test_a_record_fits_into_its_changelog_whatever_is_padded(updater: Updater) -> None:
    record = BeliefRecord()
    for turn in range(4):
        entity = batch(*(stated(turn + 1.0) for _ in range(31)), seen(turn + 1.0), record=record)
        for entry in entity.entries:
            entry.message = entry.message._replace(value=entry.message.value + b" " * 900_000)
        run(updater, entity)
        again = batch(*(stated(turn + 2.0) for _ in range(8)), record=entity.record)
        for entry in again.entries:
            entry.message = entry.message._replace(value=entry.message.value + b" " * 900_000)
        run(updater, again)
        record = BeliefRecord.decode(again.record.encode())
        assert len(again.record.encode()) < MESSAGE_BYTES
    assert entities.WAITING_BYTES + entities.PAST_BYTES + 3 * entities.MEBIBYTE < MESSAGE_BYTES


def test_a_past_of_many_bytes_is_shortened(updater: Updater, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entities, "PAST_BYTES", 1)
    entity = batch(*(seen(1.0 + 0.1 * step) for step in range(8)))
    run(updater, entity)
    assert len(entity.record.past.moments) < 8
    later = batch(seen(3.0), record=BeliefRecord.decode(entity.record.encode()))
    assert [posterior.time for posterior in run(updater, later)] == [3.0]


def test_a_waiting_prior_that_no_longer_fits_its_model_is_lost_with_its_reason(updater: Updater) -> None:
    entity = batch(stated(5.0))
    entity.plan(read, 256)
    later = batch(seen(6.0), record=entity.record)

    def refuse(key: bytes, kept: Kept) -> tuple[Event, str]:
        raise Unusable(Reason.wrong_length, "mixture: the model has 2 coordinates")

    later.plan(refuse, 256)
    assert reasons(later) == [(100, Reason.wrong_length)]
    assert later.record.pending == []


def test_an_update_that_is_not_finite_leaves_the_belief_and_the_others_alone(updater: Updater) -> None:
    bad, good = (
        batch(seen(1.0), seen(2.0, 1e300), seen(3.0), key=b"bad"),
        batch(seen(1.0), seen(2.0), key=b"good"),
    )
    posteriors = run(updater, bad, good)
    assert reasons(bad) == [(101, Reason.numerical)]
    assert {(each.entity, each.sequence, each.applied) for each in posteriors} == {
        ("bad", 1, ("0",)),
        ("bad", 2, ("2",)),
        ("good", 1, ("0",)),
        ("good", 2, ("1",)),
    }
    assert reasons(good) == []


def test_an_update_that_raises_leaves_the_others_alone(updater: Updater) -> None:
    class Unhappy(Updater):
        """Fails for whole batches, and for one entity alone."""

        def update(self, prior: Any, observations: Any) -> Any:
            if prior.batch > 1 or float(observations.value.abs().max()) > 1e5:
                raise RuntimeError("cannot")
            return super().update(prior, observations)

    unhappy = Unhappy(updater.network, updater.device, updater.settings)
    bad, good = batch(seen(1.0, 1e6), key=b"bad"), batch(seen(1.0), key=b"good")
    assert [each.entity for each in run(unhappy, bad, good)] == ["good"]
    assert reasons(bad) == [(100, Reason.numerical)]


def test_a_machine_without_memory_is_no_fault_of_the_messages(updater: Updater) -> None:
    class Full(Updater):
        """On a machine without memory."""

        def update(self, prior: Any, observations: Any) -> Any:
            raise OutOfMemory("no memory")

    entity = batch(seen(1.0))
    with pytest.raises(OutOfMemory):
        run(Full(updater.network, updater.device, updater.settings), entity)
    assert reasons(entity) == []


def test_a_prior_that_cannot_be_applied_is_lost_with_its_place(updater: Updater) -> None:
    first = batch(stated(5.0), seen(1.0))
    run(updater, first)
    far = PriorChange(belief_of(Mixture.gaussian((1e200, 0.0, 0.0, 0.0), 1.0), 0.0), "product")
    entity = batch(seen(6.0), record=first.record)
    entity.plan(lambda key, kept: (stated(5.0, far), ""), 256)
    posteriors = [
        parse(Posterior, record.value) for record in run_rounds([entity], updater, TopicNames(), "tests")
    ]
    assert reasons(entity) == [(100, Reason.numerical)]
    assert [each.applied for each in posteriors] == [("0",)]
    assert posteriors[-1].prior_sequence == 0


def test_a_belief_over_other_coordinates_is_given_up() -> None:
    old = Belief(9.0, np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    entity = EntityBatch(b"e", 0, BeliefRecord.of(old, ("x",), sequence=4))
    entity.use(MODEL)
    assert entity.record.belief is None
    assert entity.record.coordinates == MODEL.message.coordinate_names
    assert entity.record.sequence == 4  # readers go on counting


def test_an_entity_known_from_bad_messages_only_is_not_kept() -> None:
    entity = EntityBatch(b"e", 0, BeliefRecord())
    entity.count(17, is_prior=False)
    assert not entity.worth_keeping
    assert entity.is_new(18, is_prior=False)
    assert not entity.is_new(17, is_prior=False)
    assert entity.is_new(0, is_prior=True)
