"""Windows of sums: nothing is counted twice or lost inside the window, in whatever portions it arrives."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from beliefstream.inference.tracking.health.columns import WIDTH, Array, Sum
from beliefstream.inference.tracking.health.windows import BLOCKS, Window, merged

SECONDS = 256.0  # one second each of the shortest blocks


def ones(times: Array) -> Array:
    return np.ones((len(times), 1, WIDTH))


def counted(window: Window) -> float:
    return float(window.total()[0, Sum.COUNT])


def test_about_twenty_blocks_cover_the_window_without_gap_or_overlap() -> None:
    window = Window(SECONDS, 1)
    times = np.arange(0.5, 3000.0)
    for start in range(0, len(times), 7):
        window.add(times[start : start + 7], ones(times[start : start + 7]))
        ends = [block.end for block in window.blocks]
        assert [block.start for block in window.blocks[1:]] == ends[:-1]
        assert len(window.blocks) <= 26
        assert all(block.start % block.length == 0 for block in window.blocks)
    covered = window.blocks[-1].end - window.blocks[0].start
    assert BLOCKS <= covered < 2 * BLOCKS
    assert counted(window) == covered


def test_portions_of_ordered_observations_make_no_difference() -> None:
    random = np.random.default_rng(1)
    times = np.sort(random.uniform(0, 900, 4000))
    terms = random.normal(size=(4000, 2, WIDTH))
    whole, parts = Window(SECONDS, 2), Window(SECONDS, 2)
    for start in range(0, 4000, 500):
        whole.add(times[start : start + 500], terms[start : start + 500])
    cuts = np.sort(random.choice(4000, 300, replace=False))
    for chunk in np.split(np.arange(4000), cuts):
        parts.add(times[chunk], terms[chunk])
    assert [(b.start, b.length) for b in whole.blocks] == [(b.start, b.length) for b in parts.blocks]
    for one, other in zip(whole.blocks, parts.blocks, strict=True):
        np.testing.assert_allclose(one.sums, other.sums, rtol=1e-9, atol=1e-12)
    assert (whole.first, whole.newest) == (parts.first, parts.newest)
    assert whole.longest_gap == pytest.approx(parts.longest_gap)


def test_a_late_observation_is_counted_in_its_block_and_one_from_before_the_window_is_not() -> None:
    window = Window(SECONDS, 1)
    for time in (0.0, 50.0, 60.0, 55.5):
        window.add(np.array([time]), ones(np.zeros(1)))
    assert [(block.start, block.length) for block in window.blocks] == [(0, 16), (48, 4), (54, 2), (60, 1)]
    assert (counted(window), window.newest) == (4.0, 60.0)
    window.add(np.array([1000.0]), ones(np.zeros(1)))
    window.add(np.array([10.0]), ones(np.zeros(1)))
    assert (counted(window), window.too_old) == (1.0, 1)


def test_the_longest_gap_fades_over_a_window() -> None:
    window = Window(SECONDS, 1)
    for time in (0.0, 1.0, 41.0):
        window.add(np.array([time]), ones(np.zeros(1)))
    assert window.longest_gap == 40.0
    times = np.arange(42.0, 42.0 + SECONDS)
    window.add(times, ones(times))
    assert window.longest_gap == pytest.approx(20.0)


def test_windows_of_partitions_add() -> None:
    random = np.random.default_rng(2)
    times = np.sort(random.uniform(0, 500, 3000))
    terms = random.normal(size=(3000, 1, WIDTH))
    side = random.integers(0, 3, 3000)
    parts = [Window(SECONDS, 1) for _ in range(3)]
    for start in range(0, 3000, 100):
        for number, part in enumerate(parts):
            mine = np.flatnonzero(side[start : start + 100] == number) + start
            part.add(times[mine], terms[mine])
    whole = merged(parts)
    assert whole.newest == times[-1]
    since = min(block.start for block in whole.blocks)
    np.testing.assert_allclose(whole.total(), terms[times >= since].sum(0), rtol=1e-9)
    later = whole.total(400)
    np.testing.assert_allclose(later, sum(part.total(400) for part in parts), rtol=1e-9)


def test_other_lengths_and_no_windows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"windows: .*\(256\.0, 1\), \(256\.0, 2\)"):
        merged([Window(SECONDS, 1), Window(SECONDS, 2)])
    with pytest.raises(ValueError, match=r"windows: .*\[\]"):
        merged([])
    for seconds in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"seconds: must be positive, got {seconds}"):
            Window(seconds, 1)


@given(
    st.lists(
        st.lists(st.floats(0.0, 600.0), min_size=1, max_size=4),
        min_size=1,
        max_size=12,
    )
)
def test_a_window_says_whether_only_its_newest_block_has_changed(portions: list[list[float]]) -> None:
    window = Window(SECONDS, 1)
    for portion in portions:
        before = [(block.start, block.length, block.sums) for block in window.blocks]
        times = np.array(portion)
        only_newest = window.add(times, ones(times))
        after = [(block.start, block.length, block.sums) for block in window.blocks]
        kept = [place[:2] for place in before] == [place[:2] for place in after]
        older = all(one[2] is other[2] for one, other in zip(before[:-1], after[:-1], strict=False))
        assert only_newest == (kept and older)


@given(st.lists(st.floats(0.0, 600.0), min_size=1, max_size=40), st.integers(1, 40))
def test_the_longest_gap_is_that_of_each_observation_to_the_one_before(times: list[float], cut: int) -> None:
    """Each gap halves in a window's time, however the observations are portioned."""
    ordered = sorted(times)
    window = Window(SECONDS, 1)
    for portion in (ordered[:cut], ordered[cut:]):
        if portion:
            window.add(np.array(portion), ones(np.array(portion)))
    halved = [
        (later - earlier) * 0.5 ** ((ordered[-1] - later) / SECONDS) for earlier, later in pairwise(ordered)
    ]
    assert window.longest_gap == pytest.approx(max(halved, default=0.0), rel=1e-9, abs=1e-12)
