"""Light nodes around a sensor, of which one stands for several."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numba import njit
from numpy.typing import NDArray

from beliefstream.inference.update.native_polar_kept import LIGHT_NODES, LIGHT_STRIPS, _with_lighter

Array = NDArray[np.float64]
TENFOLD = 11.0  # a node's own share, and at most ten times as much of others


@njit(error_model="numpy")
def kept(shares: Array, light: tuple[float, ...], carried: Array) -> Array:
    found = np.empty_like(shares)
    for p in range(len(shares)):
        found[p] = _with_lighter(shares[p], light, carried)
    return found


@settings(max_examples=100, deadline=None)
@given(
    logs=st.lists(st.floats(-12.0, -1.0), min_size=1, max_size=300),
    light=st.sampled_from([LIGHT_NODES, LIGHT_STRIPS]),
)
def test_nodes_that_are_kept_stand_for_all_and_none_for_many_times_its_share(
    logs: list[float], light: tuple[float, ...]
) -> None:
    shares, carried = 10.0 ** np.array(logs), np.zeros(len(light))
    found = kept(shares, light, carried)
    counted = shares[shares >= light[-1]].sum()
    assert found.sum() + carried.sum() == pytest.approx(counted, rel=1e-12, abs=1e-15)
    assert carried.sum() < sum(light)
    np.testing.assert_array_equal(found[shares >= light[0]], shares[shares >= light[0]])
    assert (found <= TENFOLD * shares * (1 + 1e-12)).all()


def test_a_sum_over_light_nodes_is_that_over_those_kept() -> None:
    """Of the tails of a Gaussian, whose square is summed up."""
    places = np.linspace(-6.5, 6.5, 2001)
    shares = np.exp(-0.5 * places**2)
    shares /= shares.sum()
    found = kept(shares, LIGHT_NODES, np.zeros(len(LIGHT_NODES)))
    tails = np.abs(places) > 4
    assert 0 < (found[tails] > 0).mean() < 0.6
    assert (found * places**2)[tails].sum() == pytest.approx((shares * places**2)[tails].sum(), rel=0.05)
