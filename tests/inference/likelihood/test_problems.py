"""Problems of a user: what is checked, and what their functions give."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError, check_datum, from_support, to_support


class Counter:
    """Counts of a source on a line."""

    parameters: Any = {"x": "real", "strength": "positive"}  # noqa: RUF012
    data: Any = {"count": "count"}  # noqa: RUF012
    context: Any = ("x0",)

    def rate(self, parameters: Mapping[str, Tensor], context: Mapping[str, Tensor]) -> Tensor:
        return parameters["strength"] / (1 + (parameters["x"] - context["x0"]) ** 2)

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        return {"count": torch.poisson(self.rate(parameters, context), generator=generator)}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        law: Any = torch.distributions.Poisson(self.rate(parameters, context))
        return law.log_prob(data["count"])


def changed(**attributes: Any) -> Counter:
    return type("Changed", (Counter,), attributes)()  # type: ignore[no-any-return]


def coordinates(count: int = 5) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def numbers(count: int = 5) -> Tensor:
    return torch.tensor([[4.0, 0.3]], dtype=torch.float64).expand(count, -1)


def test_the_log_likelihood_takes_parameters_on_their_support() -> None:
    at = coordinates()
    found = ProblemFunction.of(Counter()).log_likelihood(at, numbers())
    rate = np.exp(at[:, 1].numpy()) / (1 + (at[:, 0].numpy() - 0.3) ** 2)
    np.testing.assert_allclose(found, 4 * np.log(rate) - rate - math.log(24), rtol=1e-12)


def test_derivatives_agree_with_finite_differences() -> None:
    function, at, step = ProblemFunction.of(Counter()), coordinates(), 1e-4
    with torch.inference_mode():
        _, gradient, hessian = function.derivatives(at, numbers())
    for axis in range(2):
        offset = torch.zeros(2, dtype=torch.float64)
        offset[axis] = step
        above, below = (function.log_likelihood(at + sign * offset, numbers()) for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, axis], (above - below) / (2 * step), atol=1e-6)
        above, below = (function.derivatives(at + sign * offset, numbers())[1] for sign in (1, -1))
        np.testing.assert_allclose(hessian[:, axis], (above - below) / (2 * step), atol=1e-6)


def test_a_state_that_is_impossible_has_likelihood_zero_and_no_direction() -> None:
    def log_likelihood(self: Counter, data: Any, parameters: Any, context: Any) -> Any:
        x = parameters["x"]
        return torch.where(x > 0, x.log(), -math.inf)  # the logarithm of a negative number is NaN

    function = ProblemFunction.of(changed(log_likelihood=log_likelihood))
    at = torch.tensor([[-1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    value, gradient, _ = function.derivatives(at, numbers(2))
    assert value[0] == -math.inf and value[1] == pytest.approx(math.log(2))
    assert gradient.isfinite().all() and gradient[1, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("returned", [math.nan, math.inf])
def test_a_likelihood_that_is_no_number_counts_as_impossible(returned: float) -> None:
    def log_likelihood(self: Counter, data: Any, parameters: Any, context: Any) -> Any:
        return parameters["x"] * 0 + returned

    found = ProblemFunction.of(changed(log_likelihood=log_likelihood)).log_likelihood(
        coordinates(), numbers()
    )
    assert found.isneginf().all()


@pytest.mark.parametrize("wrong", [lambda x: x[:, None], lambda x: x.sum(), lambda x: 0.0, lambda x: x[:2]])
def test_a_log_likelihood_of_another_shape_is_refused(wrong: Any) -> None:
    def log_likelihood(self: Counter, data: Any, parameters: Any, context: Any) -> Any:
        return wrong(parameters["x"])

    with pytest.raises(ProblemError, match=r"log_likelihood: .*Changed.*shape \(5,\), got"):
        ProblemFunction.of(changed(log_likelihood=log_likelihood)).log_likelihood(coordinates(), numbers())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: {"count": x * math.nan}, "count of .*Changed is not finite: nan"),
        (lambda x: {"count": x[:, None]}, r"shape \(8,\), got \(8, 1\)"),
        (lambda x: {"counts": x}, r"a tensor named count, got \['counts'\]"),
        (lambda x: x, "a tensor named count, got Tensor"),
        (lambda x: {"count": x * 0 + 0.5}, "count: must be a whole number from 0 on, got 0.5"),
        (lambda x: {"count": 1 / 0}, "failed: ZeroDivisionError"),
        (lambda x: sys.exit(3), "failed: SystemExit: 3"),
    ],
)
def test_a_simulator_that_returns_something_else_is_refused(wrong: Any, message: str) -> None:
    def simulate(self: Counter, parameters: Any, context: Any, generator: Any) -> Any:
        return wrong(parameters["x"])

    with pytest.raises(ProblemError, match=f"^simulate: .*{message}"):
        ProblemFunction.of(changed(simulate=simulate)).tried([0.3])


def test_a_likelihood_that_contradicts_its_simulator_is_refused() -> None:
    def log_likelihood(self: Counter, data: Any, parameters: Any, context: Any) -> Any:
        return parameters["x"] * 0 - math.inf

    with pytest.raises(ProblemError, match="none of 8 data of its own simulator possible"):
        ProblemFunction.of(changed(log_likelihood=log_likelihood)).tried([0.3])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"parameters": {}}, "parameters: .* needs names with their kinds"),
        ({"parameters": {"x": "complex"}}, "parameters: x of .* must be one of .*got 'complex'"),
        ({"data": ("count",)}, "data: .* needs names with their kinds"),
        ({"data": {"count": "integer"}}, "data: count of .* must be one of .*got 'integer'"),
        ({"context": "x0"}, "context: .* needs a tuple of names, got 'x0'"),
        ({"context": ("x",)}, "names: .* has x more than once"),
        ({"context": ("x 0",)}, "names: .* got 'x 0'"),
        ({"simulate": None}, "simulate: .* needs a function, got None"),
    ],
)
def test_a_problem_that_names_nonsense_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProblemError, match=message):
        ProblemFunction.of(changed(**attributes))


def test_a_thing_that_is_no_problem_is_refused() -> None:
    with pytest.raises(ProblemError, match="problem: builtins:object has no parameters"):
        ProblemFunction.of(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(("support", "parameter"), [("real", -3.0), ("positive", 2e-5), ("unit", 0.999)])
def test_coordinates_lead_back_to_parameters(support: Any, parameter: float) -> None:
    coordinate = torch.tensor(from_support(parameter, support), dtype=torch.float64)
    assert float(to_support(coordinate, support)) == pytest.approx(parameter, rel=1e-12)


@pytest.mark.parametrize(("support", "parameter"), [("real", math.nan), ("positive", 0.0), ("unit", 1.0)])
def test_a_parameter_outside_its_support_has_no_coordinate(support: Any, parameter: float) -> None:
    with pytest.raises(ValueError, match=f"must be {support}"):
        from_support(parameter, support)


@pytest.mark.parametrize(
    ("domain", "value"), [("count", -1), ("count", 1.5), ("binary", 2), ("positive", 0), ("unit", 1.1)]
)
def test_a_datum_outside_its_domain_is_refused(domain: Any, value: float) -> None:
    with pytest.raises(ValueError, match=rf"seen: must be .*, got {value:g}"):
        check_datum("seen", value, domain)


def test_functions_of_one_problem_are_equal_even_if_it_has_no_hash() -> None:
    problem, other = (changed(__hash__=None) for _ in range(2))
    assert {ProblemFunction.of(problem), ProblemFunction.of(problem)} == {ProblemFunction.of(problem)}
    assert ProblemFunction.of(problem) != ProblemFunction.of(other)
