"""A worker that has lost half of its speed fails the short benchmark, noise does not."""

from __future__ import annotations

import pytest

from research.bench import short
from research.figures.kept import figure


@pytest.mark.parametrize(
    ("measured", "reached", "runs"), [([0.7], True, 1), ([0.2, 0.5], True, 2), ([0.2, 0.49], False, 2)]
)
def test_a_slow_run_is_repeated_once(measured: list[float], reached: bool, runs: int) -> None:
    left = list(measured)
    assert short.is_reached(0.5, lambda: left.pop(0)) is reached
    assert len(measured) - len(left) == runs


def test_there_is_a_ratio_of_the_last_release() -> None:
    kept = figure("short", "of_the_echo")
    assert kept is not None
    assert kept > 0
