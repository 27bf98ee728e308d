"""An entity at rest takes all its reports together, in whatever order and batches they come, without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from beliefstream.inference.tracking import filtering
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.recovery.joint_posterior import joint_outcomes
from beliefstream.schemas import Mixture, Observation, Prior, RandomWalk, Reason, Reset
from beliefstream.streams.demo.crate import BEACONS, CRATE, PLACES, crate
from beliefstream.streams.state.record import BeliefRecord, unpack
from tests.streams.one_entity import Message, OneEntity
from tests.streams.oracle import expected, updater

RECORDING = crate(52.0)
MODEL = RECORDING.model.model_copy(update={"lateness_window": 60.0})
SENSORS = RECORDING.sensors
CARRIED = [seen.model_copy(update={"id": f"o-{n}"}) for n, seen in enumerate(RECORDING.observations[:40])]
CLOSE = 1e-9  # m, and of weights
WIDE = Mixture.gaussian(np.mean(BEACONS, axis=0), standard_deviations=(10.0, 10.0))


def ranges(*lasting: int, start: int = 0, first: int = 0) -> list[Observation]:
    """Exact ranges of the beacons in turn, one a second: so many from the first place, then from the second, ..."""
    places = [place for number, place in zip(lasting, PLACES * 2, strict=False) for _ in range(number)]
    found = []
    for number, place in enumerate(places, start):
        which = number % len(BEACONS)
        value = float(np.linalg.norm(np.subtract(place, BEACONS[which])))
        sensor, name = SENSORS[which].sensor, f"r-{first + number}"
        found.append(Observation(entity=CRATE, sensor=sensor, time=float(number), value=value, id=name))
    return found


def stated(time: float, mode: Literal["replace", "product"] = "replace", mixture: Mixture = WIDE) -> Prior:
    return Prior(entity=CRATE, time=time, mixture=mixture, mode=mode)


def tag(**changes: Any) -> OneEntity:
    return OneEntity(MODEL.model_copy(update=changes), SENSORS, updater())


def run(batches: Sequence[Sequence[Message]], **changes: Any) -> OneEntity:
    one = tag(**changes)
    for batch in batches:
        one.apply(batch)
    return one


def belief_of(messages: Sequence[Message], **changes: Any) -> Belief:
    """The last belief of the replay."""
    seen = [each for each in messages if isinstance(each, Observation)]
    priors = [each for each in messages if isinstance(each, Prior)]
    model = MODEL.model_copy(update=changes)
    return expected(model, SENSORS, seen, priors)[CRATE][-1].belief


def apart(one: OneEntity, belief: Belief) -> float:
    found = one.record.belief
    assert found is not None
    assert found.weights.shape == belief.weights.shape
    parts = [(getattr(found, name), getattr(belief, name)) for name in ("weights", "means", "covariances")]
    parts.append((np.array(found.error), np.array(belief.error)))
    return max(float(np.abs(mine - due).max()) for mine, due in parts)


def mean_of(one: OneEntity) -> np.ndarray:
    return np.asarray(one.posteriors[-1].mixture.mean())


def shuffled(messages: Sequence[Message], seed: int, cuts: set[int]) -> list[list[Message]]:
    order = np.random.default_rng(seed).permutation(len(messages))
    places = [0, *sorted(cut for cut in cuts if cut < len(messages)), len(messages)]
    return [[messages[place] for place in order[start:end]] for start, end in pairwise(places)]


orders = given(st.integers(0, 1000), st.sets(st.integers(1, len(CARRIED)), max_size=5))
few = settings(max_examples=3)


@few
@orders
def test_any_order_and_any_cut_end_as_the_replay_does(seed: int, cuts: set[int]) -> None:
    one = run(shuffled(CARRIED, seed, cuts))
    assert apart(one, belief_of(CARRIED)) < CLOSE
    assert np.linalg.norm(mean_of(one) - PLACES[1]) < 0.5  # which is not found report by report
    assert one.rejected == []


@few
@orders
@pytest.mark.parametrize("mode", ["replace", "product"])
def test_with_a_stated_prior_among_them(
    mode: Literal["replace", "product"], seed: int, cuts: set[int]
) -> None:
    messages: list[Message] = [*CARRIED, stated(CARRIED[4].time + 0.1, mode)]
    assert apart(run(shuffled(messages, seed, cuts)), belief_of(messages)) < CLOSE


@few
@orders
def test_with_ids_sent_twice(seed: int, cuts: set[int]) -> None:
    batches = shuffled(CARRIED, seed, cuts)
    again = [[*batch, *earlier[:5]] for earlier, batch in pairwise([[], *batches])]
    one = run([*again, *batches[-1:]])
    assert apart(one, belief_of(CARRIED)) < CLOSE
    assert one.record.sequence == len(CARRIED)


@few
@orders
def test_after_a_reset(seed: int, cuts: set[int]) -> None:
    before, after = CARRIED[:6], CARRIED[6:]
    reset = Reset(entity=CRATE, reset=True, time=before[-1].time)
    one = run([before, [reset], *shuffled(after, seed, cuts)])
    assert apart(one, belief_of(after)) < CLOSE


@few
@orders
def test_with_expiry_in_the_silence(seed: int, cuts: set[int]) -> None:
    one = run(shuffled(CARRIED, seed, cuts), expires_after=5.0)
    assert apart(one, belief_of(CARRIED, expires_after=5.0)) < CLOSE
    assert apart(one, belief_of(CARRIED[10:])) < CLOSE


def test_batches_of_a_record_in_memory_are_those_of_one_that_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = shuffled(CARRIED, 3, {5, 11, 20, 33})
    read = run(batches).record.encode()
    monkeypatch.setattr(BeliefRecord, "decode", lambda raw: raw)
    monkeypatch.setattr(BeliefRecord, "encode", lambda record: record)
    kept = run(batches)
    monkeypatch.undo()
    assert kept.record.encode() == read


def kept(one: OneEntity) -> int:
    return sum(len(unpack(moment.content)) for moment in one.record.past.moments)


@pytest.mark.parametrize("size", [1, 9])
def test_messages_are_kept_beyond_the_window_while_they_can_be_taken_together(size: int) -> None:
    seen, one = ranges(72), tag(lateness_window=2.0)
    moving = tag(lateness_window=2.0, motion=RandomWalk(spectral_density=0.1))
    for start in range(0, len(seen), size):
        for each in (one, moving):
            each.apply(seen[start : start + size])
        if start + size <= 64:
            assert kept(one) == start + size
    assert kept(one) < 10
    assert kept(moving) < 10


def test_what_is_too_late_stays_too_late_though_messages_are_kept() -> None:
    seen = ranges(30)
    one = run([seen], lateness_window=2.0)
    before = one.record.encode()
    late = [
        each.model_copy(update={"time": time, "id": f"late-{time}"})
        for each, time in zip(seen, (5.5, 26.9), strict=False)
    ]
    one.apply(late)
    assert [each.reason for each in one.rejected] == [Reason.late] * 2
    assert one.record.encode() == before
    one.apply([seen[0].model_copy(update={"time": 27.5, "id": "in time"})])
    assert len(one.rejected) == 2
    assert one.posteriors[-1].applied == ("in time",)


@pytest.mark.parametrize("late", [60, 62, 64])
def test_the_order_does_not_matter_where_a_history_becomes_too_long(late: int) -> None:
    """The new place is as likely as the old one at the last report that is taken together with all others."""
    seen = ranges(32, 36)
    one = run([seen[:late] + seen[late + 1 :], [seen[late]]], lateness_window=8.0)
    assert apart(one, belief_of(seen)) < CLOSE
    assert np.linalg.norm(mean_of(one) - PLACES[1]) < 0.5


@pytest.mark.parametrize("size", [1, 13, 200])
@pytest.mark.parametrize("window", [0.0, 3.0, 100.0])
def test_a_stated_prior_begins_a_new_history_after_a_long_one(window: float, size: int) -> None:
    """Afterwards, a move is found as by an entity that begins with this prior."""
    first, prior, then = ranges(70), stated(70.0), ranges(8, 12, start=70)
    messages: list[Message] = [*first, prior, *then]
    batches = [messages[start : start + size] for start in range(0, len(messages), size)]
    one = run(batches, lateness_window=window)
    assert np.linalg.norm(mean_of(one) - PLACES[1]) < 0.5
    assert apart(one, belief_of(messages)) < CLOSE
    assert apart(one, belief_of([prior, *then])) < CLOSE
    assert one.rejected == []


def test_a_product_prior_begins_none() -> None:
    messages: list[Message] = [*ranges(70), stated(70.0, "product"), *ranges(8, 12, start=70)]
    one = run([messages], lateness_window=3.0)
    assert np.linalg.norm(mean_of(one) - PLACES[0]) < 0.5
    assert apart(one, belief_of(messages)) < CLOSE


def test_after_a_long_history_expiry_is_the_same_whether_the_record_was_deleted_or_not() -> None:
    first, then = ranges(70), ranges(8, 12, start=90)
    changes = {"expires_after": 5.0, "lateness_window": 3.0}
    continued, new = run([first, then[:3], then[3:]], **changes), run([then], **changes)
    assert new.record.belief is not None
    assert apart(continued, new.record.belief) < CLOSE
    assert apart(continued, belief_of([*first, *then], **changes)) < CLOSE
    assert np.linalg.norm(mean_of(continued) - PLACES[1]) < 0.5


@pytest.mark.parametrize("is_removed", [False, True])
def test_no_joint_posterior_without_the_definition_of_a_sensor(
    is_removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no error and no dead letter either, and it goes on when the definition is back."""
    numbers: list[int] = []

    def noting(steps: Any, outcomes: Any, updater: Any) -> Any:
        found = joint_outcomes(steps, outcomes, updater)
        numbers.append(len(found))
        return found

    seen = ranges(6, 12)
    one = run([seen[:11]])  # a joint posterior is due after the twelfth
    monkeypatch.setattr(filtering, "joint_outcomes", noting)
    sensor = SENSORS[0]
    if is_removed:
        del one.definitions.sensors[sensor.sensor]
    one.apply([seen[11]])
    assert numbers == [0 if is_removed else 1]
    one.definitions.sensors[sensor.sensor] = sensor
    one.apply(seen[12:])
    assert apart(one, belief_of(seen)) < CLOSE
    assert one.rejected == []


def test_a_message_of_a_removed_sensor_becomes_one_dead_letter() -> None:
    """When it has to be applied again for a late one."""
    seen = ranges(14)
    one = run([seen[:9]], lateness_window=8.0)
    one.definitions.sensors.pop(SENSORS[0].sensor)
    for each in (seen[9], seen[10], seen[9].model_copy(update={"time": 3.5, "id": "late"}), seen[11]):
        one.apply([each])
    lost = [unpacked.message.offset for unpacked in one.rejected]
    assert len(lost) == len(set(lost)) > 0
    assert {each.reason for each in one.rejected} == {Reason.unknown_sensor}
