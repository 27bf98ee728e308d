"""Neighbouring parts of one component around a sensor, which are merged before all others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numba import njit
from numpy.typing import NDArray

from beliefstream.inference.update.native_polar_kept import ALIKE, join_alike
from beliefstream.inference.update.native_polar_space import Parts

Array = NDArray[np.float64]


@njit(error_model="numpy")
def joined(parts: Parts, count: int) -> int:
    return join_alike(parts, count)


def parts_of(shares: Array, moments: Array, source: NDArray[np.int64]) -> Parts:
    return Parts(shares.copy(), moments.copy(), source.copy(), np.empty(5))


def whole_moments(shares: Array, moments: Array) -> Array:
    """Mass, first and second moments about the origin."""
    x, y, xx, xy, yy = moments.T
    sums = (1 + 0 * x, x, y, xx + x * x, xy + x * y, yy + y * y)
    return np.array([(shares * each).sum() for each in sums])


def costs(shares: Array, moments: Array) -> float:
    """The sum of weight × (half log determinant); it rises by Runnalls' bound of each merge."""
    return float((shares * 0.5 * np.log(moments[:, 2] * moments[:, 4] - moments[:, 3] ** 2)).sum())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 4), st.sampled_from([1e-6, 0.01, 1.0]))
def test_every_source_keeps_its_moments_and_no_merge_loses_more_than_it_may(
    seed: int, count: int, sources: int, apart: float
) -> None:
    random = np.random.default_rng(seed)
    shares = 10.0 ** random.uniform(-7, 0, count)
    shares /= shares.sum()
    roots = np.eye(2) + 0.1 * random.normal(size=(count, 2, 2))
    squares = roots @ roots.transpose(0, 2, 1)
    means = apart * random.normal(size=(count, 2))
    moments = np.stack([means[:, 0], means[:, 1], squares[:, 0, 0], squares[:, 0, 1], squares[:, 1, 1]], 1)
    source = np.sort(random.integers(0, sources, count))
    parts = parts_of(shares, moments, source)
    left = joined(parts, count)
    assert 1 <= left <= count
    assert (np.diff(parts.source[:left]) >= 0).all()
    for each in set(source.tolist()):
        before, after = source == each, parts.source[:left] == each
        found = whole_moments(parts.share[:left][after], parts.moments[:left][after])
        np.testing.assert_allclose(
            found, whole_moments(shares[before], moments[before]), rtol=1e-9, atol=1e-12
        )
    lost = costs(parts.share[:left], parts.moments[:left]) - costs(shares, moments)
    assert -1e-9 <= lost < (count - left) * ALIKE + 1e-9


def test_parts_in_one_place_become_one_and_those_apart_stay() -> None:
    alike = np.tile([3.0, -1.0, 2.0, 0.5, 1.0], (6, 1))
    source = np.array([0, 0, 0, 1, 1, 1])
    assert joined(parts_of(np.full(6, 1 / 6), alike, source), 6) == 2
    apart = alike + np.arange(6)[:, None] * np.array([4.0, 0.0, 0.0, 0.0, 0.0])
    assert joined(parts_of(np.full(6, 1 / 6), apart, 0 * source), 6) == 6
    light = np.array([0.5, 1e-8, 0.5, 1e-8, 1e-8, 1e-8])  # those without weight lose nothing
    parts = parts_of(light, apart, 0 * source)
    assert joined(parts, 6) == 2
    assert parts.share[:2] == pytest.approx([0.5, 0.5], abs=1e-7)


def test_there_may_be_none() -> None:
    parts = parts_of(np.full(1, math.nan), np.full((1, 5), math.nan), np.zeros(1, np.int64))
    assert joined(parts, 0) == 0
