"""Angles of native loops, held against NumPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native_exponential import arctangent, within_half_a_turn

Array = NDArray[np.float64]

UNITS = 4  # in the last place
COORDINATES = st.floats(-1e9, 1e9, allow_subnormal=False)


@njit(error_model="numpy")
def directions(places: Array) -> Array:
    """The direction of each place ``(P, 2)``."""
    found = np.empty(len(places))
    for i in range(len(places)):
        found[i] = arctangent(places[i, 1], places[i, 0])
    return found


@njit(error_model="numpy")
def wrapped(angles: Array) -> Array:
    found = np.empty_like(angles)
    for i in range(len(angles)):
        found[i] = within_half_a_turn(angles[i])
    return found


def off(found: Array, exact: Array) -> Array:
    """In units in the last place."""
    return np.abs(found - exact) / np.spacing(np.maximum(np.abs(exact), 1e-300))


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=40))
def test_directions_are_those_of_numpy(places: list[tuple[float, float]]) -> None:
    given = np.array(places)
    assert off(directions(given), np.arctan2(given[:, 1], given[:, 0])).max() <= UNITS


def test_all_around() -> None:
    turns = np.linspace(-math.pi, math.pi, 10_001)
    given = np.stack([np.cos(turns), np.sin(turns)], 1) * np.logspace(-12, 12, len(turns))[:, None]
    assert off(directions(given), np.arctan2(given[:, 1], given[:, 0])).max() <= UNITS


def test_along_the_axes_and_at_the_origin() -> None:
    given = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.0, 0.0], [1.0, 1.0], [-1.0, -0.0]])
    np.testing.assert_array_equal(directions(given), np.arctan2(given[:, 1], given[:, 0]))


@pytest.mark.parametrize("place", [(math.nan, 1.0), (1.0, math.nan)])
def test_what_is_not_a_number_stays_so(place: tuple[float, float]) -> None:
    assert np.isnan(directions(np.array([place, (1.0, 0.0)]))).tolist() == [True, False]


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40))
def test_an_angle_is_the_nearest_of_its_turns(angles: list[float]) -> None:
    given = np.array(angles)
    found = wrapped(given)
    assert np.abs(found).max() <= math.pi + 1e-12
    turns = (given - found) / (2 * math.pi)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-12)


def test_an_angle_within_half_a_turn_stays_as_it_is() -> None:
    given = np.linspace(-3.14, 3.14, 1001)
    np.testing.assert_array_equal(wrapped(given), given)
