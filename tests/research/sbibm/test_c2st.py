from __future__ import annotations

import numpy as np
import pytest

from research.sbibm.c2st import c2st

pytest.importorskip("sklearn", reason="scikit-learn, of the extra `research`, is not installed")


def test_equal_laws_are_not_told_apart_and_shifted_ones_are() -> None:
    numbers = np.random.default_rng(0)
    first, second = numbers.normal(size=(2, 1000, 2))
    assert abs(c2st(first, second) - 0.5) < 0.04  # five standard errors of 2 000 guesses are 0.056
    assert c2st(first, second + 6) > 0.995
    # two unit normals whose means are 2 apart: the best classifier is right with probability Φ(1)
    assert c2st(first, second + np.array([2.0, 0.0])) == pytest.approx(0.841, abs=0.03)


def test_the_scale_of_a_coordinate_means_nothing() -> None:
    numbers = np.random.default_rng(1)
    first, second = numbers.normal(size=(2, 500, 2))
    scale = np.array([1e6, 1e-6])
    assert c2st(scale * first, scale * (second + 6)) > 0.995
