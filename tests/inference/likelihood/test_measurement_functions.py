"""Measurement functions: their registry, and derivatives against finite differences."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import metadata

import pytest
import torch
from torch import Tensor

from beliefstream.inference.likelihood import measurement_functions, native_functions
from beliefstream.inference.likelihood.measurement_functions import (
    ENTRY_POINTS,
    Measurement,
    Program,
    find,
    register,
    resolve,
)
from tests.inference.likelihood import laws
from tests.inference.likelihood.operators import differentiated

BUILT_IN: list[tuple[str, int, dict[str, float | list[float]]]] = [
    ("projection", 1, {}),
    ("elevation", 3, {}),
    ("landmark_depth", 3, {}),
    ("range_rate", 4, {}),
    ("range_rate", 6, {}),
    ("range_rate", 7, {}),
    ("pseudorange", 4, {"satellite": [3.0, -2.0, 5.0]}),
    ("signal_strength", 3, {"reference_power": -40.0, "exponent": 2.2, "reference_distance": 1.5}),
    ("time_difference", 4, {"propagation_speed": 0.7}),
    ("time_differences", 6, {"propagation_speed": 0.7, "weights": [1.0, -0.4]}),
]


def states(rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return (torch.randn(5, rows, generator=generator, dtype=torch.float64) + 0.5).to(dtype)


def program(name: str, rows: int, numbers: dict[str, float | list[float]]) -> tuple[Program, Tensor]:
    made, flat = Program.of(resolve(name), rows, numbers, None)
    return made, torch.as_tensor(flat).expand(5, -1)


def test_every_built_in_function_is_compared() -> None:
    assert {name for name, _, _ in BUILT_IN} == {each.name for each in native_functions.BUILT_IN}


@pytest.mark.parametrize(("name", "rows", "numbers"), BUILT_IN)
def test_derivatives_are_finite_differences(
    name: str, rows: int, numbers: dict[str, float | list[float]]
) -> None:
    made, flat = program(name, rows, numbers)
    points, step = states(rows), 1e-5
    value, gradient, hessian = made.derivatives(points, flat)
    torch.testing.assert_close(value, made.values(points, flat))
    for axis in range(rows):
        move = step * torch.eye(rows, dtype=torch.float64)[axis]
        ahead, behind = made.derivatives(points + move, flat), made.derivatives(points - move, flat)
        torch.testing.assert_close(
            gradient[:, axis], (ahead[0] - behind[0]) / (2 * step), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(
            hessian[:, axis], (ahead[1] - behind[1]) / (2 * step), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(("name", "rows", "numbers"), BUILT_IN)
def test_values_and_derivatives_are_those_of_pytorch(
    name: str, rows: int, numbers: dict[str, float | list[float]]
) -> None:
    made, flat = program(name, rows, numbers)
    expected = differentiated(made).derivatives(states(rows), flat)
    for found, wanted in zip(made.derivatives(states(rows), flat), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("name", "rows", "numbers"), BUILT_IN)
def test_single_precision_without_gradients_gives_the_same(
    name: str,
    rows: int,
    numbers: dict[str, float | list[float]],
    mode: Callable[[], AbstractContextManager[None]],
) -> None:
    made, flat = program(name, rows, numbers)
    expected = made.derivatives(states(rows), flat)
    with mode():
        found = made.derivatives(states(rows, torch.float32), flat.float())
    for single, double in zip(found, expected, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def value(name: str, state: list[float], **numbers: float | list[float]) -> float:
    parameters = {key: torch.tensor(each, dtype=torch.float64) for key, each in numbers.items()}
    return float(find(name).function(torch.tensor(state, dtype=torch.float64), **parameters))


def test_built_in_functions_are_the_formulas() -> None:
    assert value("elevation", [3.0, 4.0, 5.0]) == pytest.approx(math.pi / 4)
    assert value("range_rate", [3.0, 4.0, 1.0, 2.0]) == pytest.approx((3 * 1 + 4 * 2) / 5)
    law = {"reference_power": -40.0, "exponent": 2.0, "reference_distance": 1.0}
    assert value("signal_strength", [3.0, 4.0], **law) == pytest.approx(-40 - 20 * math.log10(5))
    assert value("time_difference", [3.0, 4.0, 0.0, 2.0], propagation_speed=0.5) == pytest.approx(
        (5 - 2) / 0.5
    )


def test_a_vector_of_parameters_and_one_of_several_outputs() -> None:
    def field(state: Tensor, moment: Tensor) -> Tensor:
        return state * moment

    made, flat = Program.of(resolve(field), 2, {"moment": [2.0, 5.0]}, 1)
    value, gradient, _ = made.derivatives(torch.ones(1, 2, dtype=torch.float64), torch.as_tensor(flat)[None])
    assert value.tolist() == [5.0]
    assert gradient.tolist() == [[0.0, 5.0]]


def test_a_registered_function_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_functions, "_registered", dict(measurement_functions._registered))

    @register("half turn", angle=True)
    def half_turn(state: Tensor) -> Tensor:
        return state[0] / 2

    assert find("half turn") == resolve(half_turn) == Measurement("half turn", half_turn, True)
    assert not resolve(half_turn, angle=False).angle
    with pytest.raises(ValueError, match=r"name: 'half turn' is .*half_turn already"):
        register("half turn")(lambda state: state[0])


def test_a_package_offers_measurements_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement_functions, "_registered", {})
    offered = metadata.EntryPoint("elsewhere", "tests.inference.likelihood.laws:elevation", ENTRY_POINTS)

    def entry_points(*, group: str, name: str) -> list[metadata.EntryPoint]:
        return [offered] if (group, name) == (offered.group, offered.name) else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert find("elsewhere").function is laws.elevation
    with pytest.raises(
        ValueError, match=r"no measurement is registered as 'nowhere'; known are .'elsewhere'"
    ):
        find("nowhere")


@pytest.mark.parametrize(
    ("function", "numbers", "message"),
    [
        (
            "elevation",
            {},
            "function: 'elevation' cannot be used on 2 coordinates .*it takes 3 coordinates or more",
        ),
        ("projection", {"gain": 2.0}, "parameters .'gain'.: .*unexpected keyword"),
        ("time_difference", {}, r"time_difference\(\) lacks the argument 'propagation_speed'"),
        ("time_difference", {"propagation_speed": [1.0, 2.0]}, "propagation_speed has 2 numbers"),
        (
            "pseudorange",
            {"satellite": [1.0, 2.0]},
            "satellite has 2 numbers, which 2 coordinates do not take",
        ),
        (
            "time_differences",
            {"propagation_speed": 1.0, "weights": [1.0, 2.0]},
            "weights has 2 numbers, which 2 coordinates do not take",
        ),
        (lambda state: state, {}, "function: '<lambda>' cannot be used .*it returns 2 numbers, expected 1"),
        (lambda state: 1.0, {}, "cannot be used .*it returns float, expected a tensor"),
        (lambda state: sys.exit(), {}, r"'<lambda>' cannot be used .*it calls sys\.exit\(\)"),
        (lambda state, gain: state.sum() * (gain - 3).log(), {"gain": 2.0}, r"it returns nan at .1\.0, 1\.0"),
        (lambda state: state.sum() / 0, {}, r"it returns inf at .* not finite at any state tried"),
        (lambda state: state[0] if state[0] > 0 else state[1], {}, "cannot be used .*data-dependent"),
        ("projection", {"gain": math.nan}, "parameters: gain must be finite"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_when_it_is_stated(
    function: str | Callable[..., Tensor], numbers: dict[str, float | list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Program.of(resolve(function), 2, numbers, None)


def test_a_built_in_function_has_one_output() -> None:
    made, flat = Program.of(resolve("projection"), 2, {}, 0, 1)
    assert made.values(torch.tensor([[1.0, 2.0]]), torch.as_tensor(flat)[None]).tolist() == [1.0]
    with pytest.raises(ValueError, match="it returns 1 number, expected 2, as `outputs` says"):
        Program.of(resolve("projection"), 2, {}, 0, 2)
    with pytest.raises(ValueError, match="it returns 1 number, and has no output 1"):
        Program.of(resolve("projection"), 2, {}, 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda state: torch.cat([state, state]), "it returns 4 numbers, expected 2, as `outputs` says"),
        (lambda state: state.sum(), "it returns 1 number, expected 2, as `outputs` says"),
        (lambda state: (state[0], state[1], state[0]), "it returns 3 numbers, expected 2, as `outputs` says"),
        (lambda state: 1.0, "it returns float, expected a tensor"),
    ],
)
def test_a_function_that_returns_another_number_of_outputs_is_refused(
    function: Callable[..., Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=f"function: '<lambda>' cannot be used on 2 coordinates .*{message}"):
        Program.of(resolve(function), 2, {}, 0, 2)


@pytest.mark.parametrize(
    "function", [lambda state: 3 * state, lambda state: (3 * state)[None], lambda state: tuple(3 * state)]
)
def test_a_function_may_return_its_outputs_in_any_shape(function: Callable[..., Tensor]) -> None:
    made, flat = Program.of(resolve(function), 2, {}, 1, 2)
    assert made.values(torch.tensor([[1.0, 2.0]]), torch.as_tensor(flat)[None]).tolist() == [6.0]


def test_a_function_of_one_number_has_one_output() -> None:
    made, flat = Program.of(resolve(lambda state: state.sum()), 2, {}, 0, 1)
    assert made.values(torch.tensor([[1.0, 2.0]]), torch.as_tensor(flat)[None]).tolist() == [3.0]


def test_a_function_that_ends_the_program_later_fails_instead() -> None:
    calls = iter(range(100))

    def leaving(state: Tensor) -> Tensor:
        return state.sum() if next(calls) == 0 else sys.exit("bye")

    made, flat = Program.of(resolve(leaving), 2, {}, None)
    with pytest.raises(RuntimeError, match=r"'leaving': it calls sys\.exit\('bye'\)"):
        made.values(torch.ones(1, 2), torch.as_tensor(flat)[None])


def test_ctrl_c_in_a_function_is_no_failure_of_it() -> None:
    def interrupted(state: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Program.of(resolve(interrupted), 2, {}, None)


@pytest.mark.parametrize(
    "function",
    [
        lambda state: (state[0] - 3).sqrt(),
        lambda state: (0.5 - state.square().sum()).sqrt(),
        lambda state: (state[0] - 1e6).log(),
        lambda state: ((state[0] - 30) * (50 - state[0])).sqrt() + state[1],
    ],
)
def test_a_function_may_be_undefined_in_most_states(function: Callable[..., Tensor]) -> None:
    made, flat = Program.of(resolve(function), 2, {}, None)
    assert made.values(torch.ones(1, 2), torch.as_tensor(flat)[None]).isnan().all()


def test_a_package_whose_measurement_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = metadata.EntryPoint("broken", "no_such_package:field", ENTRY_POINTS)
    monkeypatch.setattr(metadata, "entry_points", lambda **_: [broken])
    with pytest.raises(ValueError, match=r"'broken' of no_such_package:field cannot be loaded: No module"):
        find("broken")
