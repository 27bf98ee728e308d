"""What the changelog says, held against what is there; with real brokers in `tests.chaos.test_destroyed`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from beliefstream.streams.state.lineage import Faults, Logs, ReadProgress, SourceRecord, compare

SOURCE = SourceRecord("changelog", 0, {"seen": "seen-1", "stated": "stated-1"}, partitions=4)
PROGRESS = ReadProgress({"seen": 100, "stated": 10}, {"seen": 100, "stated": 10}, {"seen": 90, "stated": 8})


def logs(
    committed: Mapping[str, int],
    ends: Mapping[str, int] | None = None,
    earliest: Mapping[str, int] | None = None,
) -> Logs:
    all_of_them = {"seen": 200, "stated": 20}
    return Logs({"seen": 0, "stated": 0} | dict(earliest or {}), all_of_them | dict(ends or {}), committed)


def found(
    committed: Mapping[str, int],
    known: SourceRecord | None = SOURCE,
    progress: ReadProgress = PROGRESS,
    now: SourceRecord = SOURCE,
    **others: Mapping[str, int],
) -> Faults:
    return compare(known, progress, now, logs(committed, **others))


@pytest.mark.parametrize("seen", [0, 1, 90, 100])
def test_a_group_that_has_committed_what_was_read_or_less_goes_on_from_there(seen: int) -> None:
    faults = found({"seen": seen, "stated": 10})
    assert not faults
    assert faults.progress == PROGRESS


def test_where_later_messages_came_first_a_lost_end_of_the_changelog_is_still_noticed() -> None:
    progress = PROGRESS.after({"seen": 105}, {"seen": 180}, {"seen": 95})
    assert not found({"seen": 105, "stated": 10}, progress=progress)
    assert found({"seen": 150, "stated": 10}, progress=progress).starting_offsets == {"seen": 95}


def test_a_new_partition_has_nothing_to_go_back_to() -> None:
    faults = found({"seen": 0, "stated": 0}, known=None, progress=ReadProgress())
    assert (faults.starting_offsets, faults.truncated, faults.recreated) == ({}, {}, set())
    assert faults.progress == ReadProgress()


@pytest.mark.parametrize(
    "known", [None, replace(SOURCE, changelog="another"), replace(SOURCE, changelog_start=-1)]
)
def test_where_beliefs_may_be_missing_all_is_read_again_and_what_is_read_counts_anew(
    known: SourceRecord | None,
) -> None:
    faults = found({"seen": 100, "stated": 10}, known=known, earliest={"seen": 30})
    assert faults.beliefs_lost
    assert faults.starting_offsets == {"seen": 30, "stated": 0}
    assert faults.progress.read == {"seen": 30, "stated": 0}
    assert faults.progress.held == PROGRESS.held  # some beliefs hold more
    # and where the changelog loses its end on the way, that is noticed
    again = found({"seen": 60}, progress=faults.progress)
    assert again.starting_offsets["seen"] == 90


@pytest.mark.parametrize(
    "topics", [{"seen": "seen-2", "stated": "stated-1"}, {"other": "o", "stated": "stated-1"}]
)
def test_offsets_in_a_topic_that_was_made_again_or_is_another_one_are_forgotten(
    topics: dict[str, str],
) -> None:
    (name,) = topics.keys() - {"stated"}
    now = replace(SOURCE, topics=topics)
    faults = compare(
        SOURCE, PROGRESS, now, Logs({name: 0, "stated": 0}, {name: 5, "stated": 10}, {"stated": 10})
    )
    assert faults.recreated == {name}
    assert (faults.starting_offsets, faults.truncated) == ({}, {})
    assert faults.progress.held == {"stated": 10}


def test_where_more_is_committed_than_was_read_the_changelog_has_lost_its_end() -> None:
    faults = found({"seen": 130, "stated": 10})
    assert faults.starting_offsets == {"seen": 90}
    assert not faults.beliefs_lost


@pytest.mark.parametrize(("committed", "back"), [(100, 60), (60, None), (10, None)])
def test_where_a_source_has_lost_its_end_nothing_before_that_is_passed_over(
    committed: int, back: int | None
) -> None:
    faults = found({"seen": committed}, ends={"seen": 60})
    assert faults.truncated == {"seen": 60}
    assert faults.starting_offsets.get("seen") == back
    assert faults.progress.held["seen"] == 60


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.booleans(), st.booleans())
def test_the_group_never_goes_forward_and_what_is_seen_to_is_well_the_next_time(
    committed: int, end: int, earliest: int, emptied: bool, remade: bool
) -> None:
    earliest = min(earliest, end)
    now = replace(SOURCE, topics={**SOURCE.topics, "seen": "seen-2"}) if remade else SOURCE
    known = None if emptied else SOURCE
    held = Logs({"seen": earliest, "stated": 0}, {"seen": end, "stated": 10}, {"seen": committed})
    faults = compare(known, PROGRESS, now, held)
    later = replace(held, committed={"seen": committed} | dict(faults.starting_offsets))
    assert not compare(now, faults.progress.after({}, {}, later.committed), now, later)
    if committed >= earliest:
        assert all(offset <= committed for offset in faults.starting_offsets.values())
