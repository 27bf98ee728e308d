"""Records in front of their bytes: the same as decoded from these, however a batch ends."""

from __future__ import annotations

import numpy as np
import pytest

from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.timeline import Moment
from beliefstream.streams.state.codec import DamagedRecord
from beliefstream.streams.state.record import BeliefRecord, RecordCache, encode_states

KEY = b"mower"


def belief(time: float) -> Belief:
    return Belief(time, np.ones(1), np.full((1, 2), time), np.eye(2)[None])


def record(*times: float) -> BeliefRecord:
    made = BeliefRecord.of(belief(0.0), ("x", "y"), sequence=len(times))
    made.past.moments.extend(Moment(time, b"", belief(time)) for time in times)
    return made


def test_a_record_is_given_back_for_its_own_bytes() -> None:
    cache, kept = RecordCache(), record(1.0, 2.0)
    raw = kept.encode()
    cache.put(0, KEY, raw, kept)
    assert cache.take(0, KEY, bytes(bytearray(raw))) is kept


def test_bytes_from_elsewhere_are_decoded() -> None:
    cache, kept, other = RecordCache(), record(1.0), record(1.0, 2.0)
    cache.put(0, KEY, kept.encode(), kept)
    found = cache.take(0, KEY, other.encode())
    assert found.encode() == other.encode()
    with pytest.raises(DamagedRecord):
        cache.take(0, KEY, other.encode()[:-1])


def test_what_a_failed_batch_has_changed_does_not_come_back() -> None:
    cache, kept = RecordCache(), record(1.0)
    raw = kept.encode()
    cache.put(0, KEY, raw, kept)
    cache.take(0, KEY, raw).observation_offset = 77  # and it is never put back
    assert cache.take(0, KEY, raw).observation_offset == -1


def test_entities_of_one_name_in_two_partitions_are_two() -> None:
    cache, first, second = RecordCache(), record(1.0), record(2.0)
    cache.put(0, KEY, first.encode(), first)
    cache.put(1, KEY, second.encode(), second)
    assert cache.take(0, KEY, first.encode()) is first
    assert cache.take(1, KEY, second.encode()) is second


def test_those_seen_longest_ago_are_dropped_first() -> None:
    cache, kept = RecordCache(2), {key: record(1.0) for key in (b"a", b"b", b"c")}
    for key in (b"a", b"b"):
        cache.put(0, key, kept[key].encode(), kept[key])
    cache.put(0, b"a", kept[b"a"].encode(), cache.take(0, b"a", kept[b"a"].encode()))
    cache.put(0, b"c", kept[b"c"].encode(), kept[b"c"])
    assert len(cache) == 2
    assert cache.take(0, b"a", kept[b"a"].encode()) is kept[b"a"]
    assert cache.take(0, b"b", kept[b"b"].encode()) is not kept[b"b"]


def test_large_records_are_fewer() -> None:
    small, large = record(1.0), record(*map(float, range(1, 40)))
    raw, whole = small.encode(), large.encode()
    cache = RecordCache(most_bytes=len(whole) + 2 * len(raw))
    for key in (b"a", b"b", b"c", b"c"):
        cache.put(0, key, raw, small)
    assert len(cache) == 3
    cache.put(0, b"d", whole, large)
    assert len(cache) == 3
    assert cache.take(0, b"d", whole) is large
    for key in (b"a", b"e"):
        cache.put(0, key, raw, small)
    assert len(cache) == 4


def test_the_newest_belief_is_not_decoded_again_and_is_that_of_the_bytes() -> None:
    kept = record(1.0, 2.0)
    newest = kept.past.moments[-1].state
    encode_states([kept])
    assert isinstance(kept.past.state, bytes)
    raw = kept.encode()
    assert raw == record(1.0, 2.0).encode()
    assert kept.belief is newest
    found = BeliefRecord.decode(raw).belief
    assert found is not None
    assert isinstance(newest, Belief)
    assert found.time == newest.time
    assert np.array_equal(found.means, newest.means)
    state, taken = kept.past.rewind(2.0)
    assert [moment.time for moment in taken] == [2.0]
    earlier = kept.decoded(state)
    assert earlier is not None
    assert earlier.time == 1.0
