from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.filtering import Belief
from streams.beliefs import VERSION, BeliefRecord, UnknownVersion
from tests.schemas.messages import mixtures, names, numbers, relaxed

counts = st.integers(0, 2**32 - 1)
offsets = st.integers(-1, 2**62)
waiting = st.lists(st.tuples(offsets, st.binary(min_size=1, max_size=200)), max_size=3)


@st.composite
def records(draw: st.DrawFn) -> BeliefRecord:
    belief = None
    if draw(st.booleans()):
        mixture = draw(mixtures())
        parts = (mixture.weights, mixture.means, mixture.covariances)
        belief = Belief(draw(numbers), *(np.array(part) for part in parts))
    return BeliefRecord(
        belief,
        tuple(draw(st.lists(names, max_size=16))),
        draw(st.integers(0, 2**63)),
        draw(counts),
        draw(counts),
        draw(offsets),
        draw(offsets),
        draw(waiting),
    )


def same(one: BeliefRecord, other: BeliefRecord) -> bool:
    """Bit for bit."""
    if (one.belief is None) != (other.belief is None):
        return False
    if one.belief is not None and other.belief is not None:
        if one.belief.time != other.belief.time:
            return False
        for part in ("weights", "means", "covariances"):
            mine, theirs = getattr(one.belief, part), getattr(other.belief, part)
            if mine.shape != theirs.shape or mine.tobytes() != theirs.tobytes():
                return False
    fields = (
        "coordinates",
        "sequence",
        "revision",
        "prior_sequence",
        "observation_offset",
        "prior_offset",
        "pending",
    )
    return all(getattr(one, field) == getattr(other, field) for field in fields)


@relaxed
@given(records())
def test_a_record_is_read_as_it_was_written(record: BeliefRecord) -> None:
    assert same(BeliefRecord.decode(record.encode()), record)


def test_a_belief_that_was_read_can_be_changed() -> None:
    record = BeliefRecord(Belief(1.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None]), ("x", "y"))
    read = BeliefRecord.decode(record.encode())
    assert read.belief is not None
    read.belief.means[0, 0] = 5.0


def test_a_new_record_holds_nothing_and_no_message_yet() -> None:
    record = BeliefRecord.decode(BeliefRecord().encode())
    assert same(record, BeliefRecord())
    assert (record.observation_offset, record.prior_offset, record.sequence) == (-1, -1, 0)


def test_a_record_of_another_version_is_refused() -> None:
    raw = BeliefRecord().encode()
    with pytest.raises(UnknownVersion, match=f"version {VERSION + 1}, this program reads {VERSION}"):
        BeliefRecord.decode(bytes([VERSION + 1]) + raw[1:])
