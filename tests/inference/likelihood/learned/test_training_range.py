"""The range of a training: what a problem states, and what lies outside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError
from tests.inference.likelihood.learned.simulators import Counter

RANGES = Counter.ranges


def of(ranges: Any) -> TrainingRange:
    return TrainingRange.of(ProblemFunction.of(type("Changed", (Counter,), {"ranges": ranges})()))


def test_parameters_are_drawn_in_the_coordinates_that_stand_for_them() -> None:
    drawn = of(RANGES).draw(4000, torch.Generator().manual_seed(1)).numpy()
    assert drawn.shape == (4000, 4)
    np.testing.assert_allclose(np.exp(drawn[:, 1]).min(), 2, rtol=0.01)
    np.testing.assert_allclose(np.exp(drawn[:, 1]).max(), 50, rtol=0.01)
    np.testing.assert_allclose(drawn[:, 1].mean(), math.log(10), atol=0.05)  # by the logarithm
    assert set(drawn[:, 3]) == {2.0}


def test_the_range_is_scaled_to_one_and_its_edge_stands_for_what_lies_outside() -> None:
    values = torch.tensor([[-5, math.log(10), 4, 2], [50, math.log(2), 0, 2]], dtype=torch.float64)
    np.testing.assert_allclose(of(RANGES).scaled(values), [[-1, 0, 1, 0], [1, -1, 0, 0]], atol=1e-12)


def test_the_distance_outside_is_in_widths_of_the_range() -> None:
    values = torch.tensor([[-6, math.log(2), 8, 3]], dtype=torch.float64)
    np.testing.assert_allclose(of(RANGES).distance(values), [[0.1, 0, 0.5, 0.5]])


@pytest.mark.parametrize(
    ("ranges", "shown"),
    [
        (None, "ranges: .*Changed needs the lowest and highest value by name, got None"),
        ({"x": (-5, 5)}, r"ranges: .*Changed needs \['x', 'strength', 'place', 'seconds'\], got \['x'\]"),
        ({**RANGES, "y": (0, 1)}, r"got \['x', 'strength', 'place', 'seconds', 'y'\]"),
        (
            {**RANGES, "x": (5, -5)},
            r"ranges: x of .* needs two finite numbers, the lower first, got \(5, -5\)",
        ),
        ({**RANGES, "x": 3}, "ranges: x of .* needs two finite numbers, the lower first, got 3"),
        ({**RANGES, "place": (0, math.nan)}, r"ranges: place of .* or one, got \(0, nan\)"),
        ({**RANGES, "strength": (0, 5)}, "ranges: strength of .*: parameter: must be positive, got 0"),
    ],
)
def test_a_range_that_cannot_be_is_refused(ranges: Any, shown: str) -> None:
    with pytest.raises(ProblemError, match=shown):
        of(ranges)
