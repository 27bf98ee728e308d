"""True errors of learned likelihoods: those of normal laws in closed form; the p-value is that of SciPy."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from research.evaluation.learned.errors import Case, divergence, measured, p_value_of, table

PRIOR = 2.0  # deviation
SHIFT = 0.4  # of the learned likelihood


class Level:
    parameters: Any = {"x": "real"}  # noqa: RUF012
    data: Any = {"y": "real"}  # noqa: RUF012
    context: Any = ()

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        noise = torch.randn(len(parameters["x"]), dtype=torch.float64, generator=generator)
        return {"y": parameters["x"] + noise}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        return -0.5 * (data["y"] - parameters["x"]).square()


class Shifted:
    """The same with its mean moved."""

    digest, expected_error = "", SHIFT**2 / 2
    low, high = torch.tensor([-40.0]).double(), torch.tensor([40.0]).double()

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def __call__(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        return -0.5 * (numbers[:, 0] - coordinates[:, 0] - self.shift).square()

    def distance_of(self, numbers: Tensor) -> float:
        return 0.0


EXACT = ProblemFunction.of(Level())


def points(mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return mean + PRIOR * torch.randn(100_000, 1, dtype=torch.float64, generator=generator)


def test_the_divergence_is_that_of_two_normal_posteriors() -> None:
    variance = 1 / (1 / PRIOR**2 + 1)
    expected = (variance * SHIFT) ** 2 / (2 * variance)
    found = divergence(EXACT, Shifted(SHIFT), points(), torch.tensor([1.5]).double())
    assert found == pytest.approx(expected, rel=0.05)
    assert divergence(EXACT, Shifted(0.0), points(), torch.tensor([1.5]).double()) == pytest.approx(
        0, abs=1e-9
    )


def test_cases_beyond_the_training_and_those_of_too_few_points_are_left_out() -> None:
    assert divergence(EXACT, Shifted(SHIFT), points(39.0), torch.tensor([39.5]).double()) is None
    assert divergence(EXACT, Shifted(SHIFT), points(), torch.tensor([25.0]).double()) is None


@pytest.mark.parametrize("value", [0.3, -3.0, 6.0])
def test_the_p_value_is_the_tail_of_the_predictive_law(value: float) -> None:
    datum, nothing = torch.tensor([value]).double(), torch.zeros(0).double()
    found = p_value_of(EXACT, points(), datum, nothing, torch.Generator().manual_seed(1))
    expected = 2 * scipy.stats.norm(0, (PRIOR**2 + 1) ** 0.5).sf(abs(value))
    assert found == pytest.approx(expected, abs=0.06 if expected > 0.1 else 0.02)


def test_rare_data_are_among_the_cases_and_count_more() -> None:
    cases = list(measured(EXACT, Shifted(SHIFT), 60, 3))
    assert min(case.p_value for case in cases) < 0.05 < 0.5 < max(case.p_value for case in cases)
    assert all(case.counted >= SHIFT**2 / 2 - 1e-12 for case in cases)


def test_the_table_has_a_row_for_each_range_of_the_p_value() -> None:
    rows = table([Case(0.5, 0.1, 0.2), Case(0.6, 0.3, 0.2), Case(0.02, 1.0, 0.5)])
    assert rows[0].startswith("| 0.3 to 1 | 2 | 0.20000 ± 0.10000 | 0.20000 | 0.50 | 0.3000 |")
    assert len(rows) == 2 and rows[1].startswith("| 0.01 to 0.03 | 1 |")
