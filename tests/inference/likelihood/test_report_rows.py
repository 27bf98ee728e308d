"""Reports of several rows: how they are filled up, and that the problem's functions get rows of equal number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ONE, ProblemError, Rows, padded, rows_of
from beliefstream.inference.sensors import encode, of_problem
from beliefstream.inference.sensors.readings import Reading


class Shots:
    """A set of shots in the plane around the middle (x, y), with a deviation from the context."""

    parameters: Any = {"x": "real", "y": "real"}  # noqa: RUF012
    data: Any = {"east": "real", "north": "real"}  # noqa: RUF012
    context: Any = ("deviation",)
    rows: Any = ("set", 3)

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        noise = torch.randn(2, len(parameters["x"]), 3, dtype=torch.float64, generator=generator)
        east, north = context["deviation"][:, None] * noise
        return {"east": parameters["x"][:, None] + east, "north": parameters["y"][:, None] + north}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        deviation = context["deviation"][:, None]
        offsets = [data[d] - parameters[p][:, None] for p, d in (("x", "east"), ("y", "north"))]
        squared = sum(offset.square() for offset in offsets) / deviation.square()
        return -(squared / 2 + 2 * deviation.log() + math.log(2 * math.pi)).sum(1)


SHOTS = [[1.0, 2.0], [1.0, 2.0, -1.0, 0.5], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]]


def shots(value: list[str]) -> Any:
    context = {} if "deviation" in value else {"deviation": 2.0}
    return of_problem(Shots(), {"x": 0, "y": 2}, 3, value, context)


@pytest.mark.parametrize("value", [["east", "north"], ["north", "east"], ["deviation", "east", "north"]])
def test_reports_of_any_number_of_rows_have_their_likelihood(value: list[str]) -> None:
    before = [2.0] if "deviation" in value else []
    order = [1, 0] if value[0] == "north" else [0, 1]
    rows = [np.array(each).reshape(-1, 2) for each in SHOTS]
    sensor = shots(value)
    readings = [Reading(sensor, np.array([*before, *each[:, order].ravel()])) for each in rows]
    points = torch.randn(3, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = encode([[each] for each in readings], 3).log_likelihood(points)
    for row, seen in enumerate(rows):
        middle = points[row][:, [0, 2]].numpy()
        expected = scipy.stats.norm(middle[:, None], 2.0).logpdf(seen).sum((1, 2))
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_derivatives_of_reports_of_several_lengths_are_theirs() -> None:
    function = ProblemFunction.of(Shots())
    numbers = torch.tensor([[*padded(each, function.rows, 0, 2), 2.0] for each in SHOTS]).double()
    at = torch.zeros(3, 2, dtype=torch.float64)
    _, gradient, hessian = function.derivatives(at, numbers)
    for row, seen in enumerate(SHOTS):
        np.testing.assert_allclose(gradient[row], np.reshape(seen, (-1, 2)).sum(0) / 4)
        np.testing.assert_allclose(hessian[row], -np.eye(2) * len(seen) / 8)


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ("set", "needs .* got 'set'"),
        (("bag", 3), "needs .* got \\('bag', 3\\)"),
        (("set", 2.5), "needs .* got"),
        (("sequence", 1), "needs from 2 to 32 rows of 2 data, got 1"),
        (("set", 33), "needs from 2 to 32 rows of 2 data, got 33"),
    ],
)
def test_rows_that_make_no_sense_are_refused(stated: Any, shown: str) -> None:
    problem = type("Odd", (Shots,), {"rows": stated})()
    with pytest.raises(ProblemError, match=f"rows: .*Odd {shown}"):
        ProblemFunction.of(problem)


def test_a_problem_without_rows_has_one() -> None:
    assert rows_of(None, 3) == ONE == Rows("one", 1)


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_rows_that_are_not_whole_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 3 rows of 2 data expected, got {count} numbers"):
        shots(["east", "north"]).numbers(np.zeros(count))


def test_lacking_rows_are_filled_up() -> None:
    found = shots(["deviation", "east", "north"]).filled(np.array([2.0, 1.0, 3.0]))
    np.testing.assert_array_equal(found, [2.0, 1.0, 3.0, *[math.nan] * 4])


def test_data_of_rows_come_last() -> None:
    with pytest.raises(ValueError, match=r"value: the data of .*Shots have rows, so they come last"):
        shots(["east", "north", "deviation"])


def test_a_simulator_of_too_few_rows_is_told() -> None:
    class Short(Shots):
        def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
            drawn = super().simulate(parameters, context, generator)
            return {name: each[:, :2] for name, each in drawn.items()}

    with pytest.raises(
        ProblemError, match=r"simulate: east of .*Short must have shape \(8, 3\), got \(8, 2\)"
    ):
        of_problem(Short(), {"x": 0, "y": 1}, 2, ["east", "north"], {"deviation": 2.0})


@pytest.mark.parametrize(
    ("features", "shown"),
    [
        (lambda self, parameters, context: 3, "must return numbers by name, got int"),
        (lambda self, parameters, context: {"far": parameters["x"][:2]}, r"shape \(4,\), got \(2,\)"),
        (lambda self, parameters, context: parameters["z"], "failed: KeyError: 'z'"),
    ],
)
def test_features_that_fail_are_told(features: Any, shown: str) -> None:
    function = ProblemFunction.of(type("Odd", (Shots,), {"features": features})())
    with pytest.raises(ProblemError, match=f"features: .*Odd .*{shown}"):
        function.features(torch.zeros(4, 2).double(), torch.ones(4, 1).double())
