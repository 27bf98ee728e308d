"""A batch's entities through event time, without a broker."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pytest

from inference.filtering import Belief, Event, PriorChange
from inference.sensors import Reading
from inference.update import Updater
from schemas import Mixture, PositionSensor, Posterior, Reason, Unusable, parse
from streams.beliefs import BeliefRecord
from streams.conversion import belief_of, sensor_over
from streams.registry import EntityModel
from streams.rounds import EntityBatch, run_rounds
from streams.simulation import fleet_model
from streams.topics import TopicNames
from tests.streams.oracle import updater as shared_updater

MODEL = EntityModel(fleet_model())
SENSOR = sensor_over(PositionSensor(sensor="s", standard_deviation=1.0), MODEL.message.coordinate_names)
STATED = PriorChange(belief_of(Mixture.gaussian((5.0, 5.0, 0.0, 0.0), 1.0), 0.0))


class Message(NamedTuple):
    offset: int
    value: bytes


class Delivered(NamedTuple):
    message: Message


@pytest.fixture(scope="module")
def updater() -> Updater:
    return shared_updater()


def seen(time: float, x: float = 1.0) -> Event:
    return Event("e", time, reading=Reading(SENSOR, np.array([x, 2.0])))


def stated(time: float, change: PriorChange = STATED) -> Event:
    return Event("e", time, prior=change)


def batch(*events: Event, record: BeliefRecord | None = None, key: bytes = b"e") -> EntityBatch:
    """An entity's batch; the events have ids 0, 1, ... and offsets 100, 101, ..."""
    entity = EntityBatch(key, 0, record or BeliefRecord())
    for number, event in enumerate(events):
        kind = "prior" if event.prior is not None else "seen"
        value = json.dumps({"kind": kind, "time": event.time}).encode()
        entity.accept(
            Delivered(Message(100 + number, value)), event, "" if event.prior is not None else str(number)
        )
    entity.use(MODEL)
    return entity


def waited(key: bytes, raw: bytes) -> Event:
    """Reads a prior back that `batch` has put into a message."""
    return stated(json.loads(raw)["time"])


def run(updater: Updater, *entities: EntityBatch) -> list[Posterior]:
    for entity in entities:
        assert entity.plan(waited, 64) == []
    records = run_rounds(entities, updater, TopicNames(), "tests")
    return [parse(Posterior, record.value) for record in records]


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
    assert sorted(entity.applied) == [0, 1, 2, 3]


def test_what_lies_before_the_belief_is_late_and_left_out(updater: Updater) -> None:
    first = batch(seen(5.0))
    run(updater, first)
    entity = batch(seen(4.9), seen(5.0), stated(1.0), seen(6.0), record=first.record)
    assert entity.split_late() == [0, 2]
    posteriors = run(updater, entity)
    assert [each.applied for each in posteriors] == [("1",), ("3",)]


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


def test_no_more_priors_wait_than_allowed() -> None:
    entity = batch(*(stated(float(time)) for time in range(1, 5)))
    assert entity.plan(waited, 3) == [3]
    assert [offset for offset, _ in entity.record.pending] == [100, 101, 102]


def test_a_waiting_prior_that_no_longer_fits_its_model_is_lost_with_its_reason(updater: Updater) -> None:
    entity = batch(stated(5.0))
    entity.plan(waited, 64)
    later = batch(seen(6.0), record=entity.record)

    def refuse(key: bytes, raw: bytes) -> Event:
        raise Unusable(Reason.wrong_length, "mixture: the model has 2 coordinates")

    assert later.plan(refuse, 64) == []
    assert [(offset, reason) for offset, _, reason, _ in later.lost] == [(100, Reason.wrong_length)]
    assert later.record.pending == []


def test_an_update_that_is_not_finite_leaves_the_belief_and_the_others_alone(updater: Updater) -> None:
    bad, good = (
        batch(seen(1.0), seen(2.0, 1e300), seen(3.0), key=b"bad"),
        batch(seen(1.0), seen(2.0), key=b"good"),
    )
    posteriors = run(updater, bad, good)
    assert bad.failed == [1]
    assert {(each.entity, each.sequence, each.applied) for each in posteriors} == {
        ("bad", 1, ("0",)),
        ("bad", 2, ("2",)),
        ("good", 1, ("0",)),
        ("good", 2, ("1",)),
    }
    assert good.failed == []


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
    assert bad.failed == [0]


def test_a_prior_that_cannot_be_applied_is_lost_with_its_place(updater: Updater) -> None:
    first = batch(stated(5.0), seen(1.0))
    run(updater, first)
    far = PriorChange(belief_of(Mixture.gaussian((1e200, 0.0, 0.0, 0.0), 1.0), 0.0), "product")
    entity = batch(seen(6.0), record=first.record)
    assert entity.plan(lambda key, raw: stated(5.0, far), 64) == []
    posteriors = [
        parse(Posterior, record.value) for record in run_rounds([entity], updater, TopicNames(), "tests")
    ]
    assert [(offset, reason) for offset, _, reason, _ in entity.lost] == [(100, Reason.numerical)]
    assert [each.applied for each in posteriors] == [("0",)]
    assert posteriors[-1].prior_sequence == 0


def test_a_belief_over_other_coordinates_is_given_up() -> None:
    old = Belief(9.0, np.ones(1), np.zeros((1, 1)), np.eye(1)[None])
    entity = EntityBatch(b"e", 0, BeliefRecord(old, ("x",), sequence=4))
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
