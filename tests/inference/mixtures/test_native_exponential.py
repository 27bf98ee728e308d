"""Elementary functions of native loops, held against NumPy's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numba import njit
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native_exponential import (
    UNDERFLOW,
    exponential,
    logarithm,
    roughly_exponential,
    roughly_power_of_two,
)

UNITS = 4  # in the last place

Array = NDArray[np.float64]


def over_all(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """The native loop over an array."""

    def loop(values: Array) -> Array:
        found = np.empty_like(values)
        for i in range(len(values)):
            found[i] = function(values[i])
        return found

    compiled: Callable[[Array], Array] = njit(error_model="numpy")(loop)
    return compiled


exponentials, logarithms = over_all(exponential), over_all(logarithm)
rough_exponentials, powers = over_all(roughly_exponential), over_all(roughly_power_of_two)


def off(found: Array, exact: Array) -> Array:
    """In units in the last place."""
    return np.abs(found - exact) / np.spacing(np.abs(exact))


@given(st.lists(st.floats(UNDERFLOW, 709.0), min_size=1, max_size=40))
def test_exponentials_are_those_of_numpy(values: list[float]) -> None:
    given = np.array(values)
    assert off(exponentials(given), np.exp(given)).max() <= UNITS


def test_rough_exponentials_are_off_by_two_ten_millionths_at_most() -> None:
    given = np.linspace(UNDERFLOW, 709.0, 100_001)
    assert np.abs(rough_exponentials(given) / np.exp(given) - 1).max() < 2e-7


def test_rough_powers_of_two_are_off_by_three_ten_billionths_at_most() -> None:
    given = np.linspace(-1020.0, 1020.0, 100_001)
    assert np.abs(powers(given) / np.exp2(given) - 1).max() < 3e-10


@given(st.lists(st.floats(2.3e-308, 1.7e308), min_size=1, max_size=40))
def test_logarithms_are_those_of_numpy(values: list[float]) -> None:
    given = np.array(values)
    assert off(logarithms(given), np.log(given)).max() <= UNITS


def test_near_one_a_logarithm_keeps_its_digits() -> None:
    given = 1 + np.concatenate([sign * np.logspace(-15, -1, 400) for sign in (-1, 1)])
    assert off(logarithms(given), np.log(given)).max() <= UNITS


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, -math.inf), (math.inf, math.inf), (math.nan, math.nan), (1.0, 0.0)]
)
def test_what_has_no_finite_logarithm(value: float, expected: float) -> None:
    np.testing.assert_array_equal(logarithms(np.array([value, 2.0])), [expected, math.log(2)])
