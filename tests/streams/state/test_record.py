from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from beliefstream.inference.sensors.persistent import PersistentError
from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError
from beliefstream.inference.tracking.events import Belief, Hidden
from beliefstream.inference.tracking.timeline import Moment, Timeline
from beliefstream.streams.state.codec import (
    StoredBelief,
    UnknownVersion,
    decode_belief,
    encode_beliefs,
)
from beliefstream.streams.state.record import (
    MOST_RESET_IDS,
    VERSION,
    BeliefRecord,
    StoredMessage,
    pack,
    read_times,
    unpack,
)
from tests.schemas.messages import identifiers, mixtures, names, numbers, relaxed

counts = st.integers(0, 2**32 - 1)
offsets = st.integers(-1, 2**62)
waiting = st.lists(st.tuples(offsets, st.binary(min_size=1, max_size=200)), max_size=3)


stored_messages = st.lists(
    st.builds(StoredMessage, st.booleans(), offsets, st.binary(max_size=200)), max_size=3
)


@st.composite
def beliefs(draw: st.DrawFn) -> Belief:
    mixture = draw(mixtures())
    weights, means, covariances = map(np.array, (mixture.weights, mixture.means, mixture.covariances))
    control = None
    if draw(st.booleans()):
        inputs = draw(st.lists(numbers, min_size=1, max_size=3))
        control = ControlReading(np.array(inputs), np.diag(np.abs(inputs)))
    error = draw(st.just(NO_ERROR) | st.builds(AccumulatedError, *[numbers] * 4))
    size = means.shape[1]
    errors = draw(st.lists(st.builds(PersistentError, st.text(), numbers, numbers), max_size=size - 1))
    hidden = Hidden(tuple(errors), tuple(draw(numbers) for _ in errors))
    split = draw(st.integers(0, len(weights)))
    modes = draw(st.sampled_from([(), (split, 0, len(weights) - split)]))
    return Belief(draw(numbers), weights, means, covariances, control, error, hidden, modes)


@st.composite
def records(draw: st.DrawFn) -> BeliefRecord:
    base = draw(st.none() | beliefs())
    times = sorted(draw(st.sets(numbers, max_size=4)))
    states: list[StoredBelief | None] = [draw(st.none() | beliefs()) for _ in times]
    moments: list[Moment[bytes, StoredBelief]] = [
        Moment(time, pack(draw(stored_messages)), state, draw(st.integers(1, 65)))
        for time, state in zip(times, states, strict=True)
    ]
    resets = draw(st.integers(0, 2**32 - 1))
    place, ids = draw(st.integers(0, 2**62)), tuple(draw(st.lists(identifiers, max_size=MOST_RESET_IDS)))
    return BeliefRecord(
        Timeline(base, draw(st.just(-math.inf) | numbers), moments),
        tuple(draw(st.lists(names, max_size=16))),
        draw(st.integers(0, 2**63)),
        draw(counts),
        draw(counts),
        draw(offsets),
        draw(offsets),
        draw(waiting),
        draw(st.just(-math.inf) | numbers),
        draw(st.just(-math.inf) | numbers),
        *((resets, place, ids) if resets else ()),
    )


def same_state(one: StoredBelief | None, other: StoredBelief | None) -> bool:
    """Bit for bit."""
    mine, theirs = decode_belief(one), decode_belief(other)
    if mine is None or theirs is None:
        return mine is theirs
    parts = ((getattr(mine, part), getattr(theirs, part)) for part in ("weights", "means", "covariances"))
    if (mine.error, mine.hidden, mine.modes) != (theirs.error, theirs.hidden, theirs.modes):
        return False
    equal = all(part.shape == its.shape and part.tobytes() == its.tobytes() for part, its in parts)
    if mine.control is None or theirs.control is None:
        return mine.time == theirs.time and equal and mine.control is theirs.control
    return mine.time == theirs.time and equal and mine.control.content == theirs.control.content


def same(one: BeliefRecord, other: BeliefRecord) -> bool:
    """Bit for bit."""
    mine, theirs = one.past, other.past
    fields = [
        field.name for field in dataclasses.fields(BeliefRecord) if field.compare and field.name != "past"
    ]
    return (
        all(getattr(one, field) == getattr(other, field) for field in fields)
        and mine.base_time == theirs.base_time
        and same_state(mine.base, theirs.base)
        and len(mine.moments) == len(theirs.moments)
        and all(
            (ours.time, ours.content, ours.number) == (its.time, its.content, its.number)
            and same_state(ours.state, its.state)
            for ours, its in zip(mine.moments, theirs.moments, strict=True)
        )
    )


@relaxed
@given(records())
def test_a_record_is_read_as_it_was_written(record: BeliefRecord) -> None:
    assert same(BeliefRecord.decode(record.encode()), record)


def test_a_belief_that_was_read_can_be_changed() -> None:
    record = BeliefRecord.of(Belief(1.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None]), ("x", "y"))
    read = BeliefRecord.decode(record.encode())
    assert read.belief is not None
    read.belief.means[0, 0] = 5.0


def test_light_components_and_the_doubt_they_are_kept_for_are_read_as_they_were_written() -> None:
    weights = np.array([1.0, 1e-5, np.exp(-100.0)])
    means, covariances = np.arange(6.0).reshape(3, 2), np.stack([np.eye(2)] * 3)
    belief = Belief(1.0, weights, means, covariances, error=AccumulatedError(0.1, 0.0, 2.0, 30.0))
    read = BeliefRecord.decode(BeliefRecord.of(belief, ("x", "y")).encode()).belief
    assert same_state(read, belief)


def test_a_covariance_that_is_not_symmetric_to_the_last_bit_is_kept_as_it_is() -> None:
    lopsided = np.array([[[1.0, 0.1], [np.nextafter(0.1, 1), 1.0]]])
    record = BeliefRecord.of(Belief(1.0, np.ones(1), np.zeros((1, 2)), lopsided), ("x", "y"))
    assert same(BeliefRecord.decode(record.encode()), record)


@given(stored_messages)
def test_messages_are_unpacked_as_they_were_packed(messages: list[StoredMessage]) -> None:
    assert unpack(pack(messages)) == messages


def test_the_times_are_read_without_the_rest() -> None:
    plain = Belief(1.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    record = BeliefRecord.of(plain, ("x", "y"), last_seen=4.0)
    assert read_times(record.encode()) == (1.0, 4.0)


def test_a_new_record_holds_nothing_and_no_message_yet() -> None:
    record = BeliefRecord.decode(BeliefRecord().encode())
    assert same(record, BeliefRecord())
    assert (record.observation_offset, record.prior_offset, record.sequence) == (-1, -1, 0)


def test_a_record_of_another_version_is_refused() -> None:
    raw = BeliefRecord().encode()
    with pytest.raises(UnknownVersion, match=f"version {VERSION + 1}, this program reads version {VERSION}"):
        BeliefRecord.decode(bytes([VERSION + 1]) + raw[1:])


@given(st.lists(beliefs(), max_size=6), st.integers(0, 3))
def test_beliefs_encoded_together_are_the_same_bytes(several: list[Belief], repeats: int) -> None:
    several = several * repeats
    assert encode_beliefs(several) == [encode_beliefs([belief])[0] for belief in several]


def test_zeros_of_two_signs_and_crooked_covariances_are_kept_in_a_batch() -> None:
    sound = np.array([[[2.0, 0.0], [0.0, 2.0]]])
    signed = np.array([[[2.0, 0.0], [-0.0, 2.0]]])
    crooked = np.array([[[2.0, 0.5], [0.25, 2.0]]])
    several = [Belief(1.0, np.ones(1), np.zeros((1, 2)), each) for each in (sound, signed, crooked)]
    for belief, raw in zip(several, encode_beliefs(several), strict=True):
        found = decode_belief(raw)
        assert found is not None
        assert found.covariances.tobytes() == belief.covariances.tobytes()
