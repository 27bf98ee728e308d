"""Sensors of a function: conventions, derivatives in the state, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.sensors import Reading, Sensor, encode
from tests.inference.plain_models import random_covariances, random_normal
from tests.inference.reports import at, expected, log_density, report

STATE = np.array([3.0, 4.0, 2.0, 1.0, -2.0, 0.5])  # place and velocity


def every() -> list[Sensor]:
    place = [0, 1, 2]
    return [
        sensors.elevation(place, 6, [1.0, 1.0, 0.5], 0.05),
        sensors.depth([0, 1], 5, 6, [7.0, 5.0], 0.2),
        sensors.range_rate(place, [3, 4, 5], 6, [1.0, 0.0, 0.0], 0.2),
        sensors.signal_strength(place, 6, [1.0, 1.0, 0.0], 2.0, -40.0, 2.2),
        sensors.time_difference([0, 1], 6, [9.0, 0.0], [-9.0, 1.0], 0.1, 0.7),
        sensors.linear(
            [[1.0, 0, 2.0, 0, 0, 0]], [[0.3]], noise=sensors.Noise((0.5, 0.5), (0.0, 1.0), (1.0, 2.0))
        ),
        sensors.function(lambda state: state[0] * state[1].sin(), [0, 4], 6, 0.3, origin=[1.0, 0.0]),
    ]


def test_each_is_the_quantity_it_says() -> None:
    offset = np.array([2.0, 4.0, 2.0])
    found = [expected(sensor, STATE) for sensor in every()]
    wanted = [
        math.atan2(1.5, math.hypot(2.0, 3.0)),
        math.hypot(4.0, 1.0) * math.cos(math.atan2(1.0, 4.0) - 0.5),
        float(offset @ STATE[3:] / np.linalg.norm(offset)),
        -40 - 22 * math.log10(math.sqrt(4 + 9 + 4)),
        (math.hypot(6, 4) - math.hypot(12, 3)) / 0.7,
        7.0,
        2.0 * math.sin(-2.0),
    ]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_derivatives_in_the_state_are_finite_differences() -> None:
    chosen = [sensor for sensor in every() if sensor.noise is None]
    observations = encode([[Reading(sensor, np.zeros(1)) for sensor in chosen]], 6)
    factor = torch.linalg.cholesky(random_covariances(3, dimension=6))
    found = observations.linearise(at(STATE), factor[None, None])
    deviation = observations.standard_deviation

    def slope(move: Tensor) -> Tensor:
        return -observations.difference(at(STATE) + (factor @ move))[0, 0] / deviation[0]

    step = 1e-4
    moves = step * torch.eye(6, dtype=torch.float64)
    jacobian = torch.stack([(slope(m) - slope(-m)) / (2 * step) for m in moves], -1)
    rows = [
        [(slope(a + b) - slope(a - b) - slope(b - a) + slope(-a - b)) / (4 * step**2) for a in moves]
        for b in moves
    ]
    hessian = torch.stack([torch.stack(row, -1) for row in rows], -1)
    signed = found.residuals.signed[0, 0, :, None]
    torch.testing.assert_close(found.gradient[0, 0], jacobian * signed, rtol=1e-5, atol=1e-4)
    information = jacobian[:, :, None] * jacobian[:, None, :]
    torch.testing.assert_close(found.information[0, 0], information, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.curvature[0, 0], hessian, rtol=1e-3, atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_new_coordinates_leave_the_likelihood_as_it_is(seed: int, scale: float) -> None:
    noise = sensors.Noise((0.6, 0.4), (0.0, 0.7), (1.0, 3.0), 0.1, ((0.1, sensors.Uniform(-50, 50)),))
    chosen = [*every(), sensors.range_to([0, 1], 6, [1.0, 2.0], 0.3, noise=noise), sensors.heading(2, 6, 0.4)]
    observations = encode([[Reading(sensor, np.array([1.0])) for sensor in chosen]], 6)
    shift, factor = random_normal(seed, 1, 6), torch.tensor([scale], dtype=torch.float64)
    points = at(STATE) + 0.5 * random_normal(seed + 1, 1, 4, 6)
    moved = observations.in_coordinates(shift, factor)
    inside = (points - shift[:, None]) / factor
    expected_likelihood = observations.log_likelihood(points)
    torch.testing.assert_close(moved.log_likelihood(inside), expected_likelihood, rtol=1e-4, atol=1e-3)
    eye = torch.eye(6, dtype=torch.float64)[None, None].expand(1, 4, 6, 6)
    there, here = moved.linearise(inside, eye), observations.linearise(points, scale * eye)
    torch.testing.assert_close(there.gradient, here.gradient, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(there.curvature, here.curvature, rtol=1e-3, atol=1e-3)


def test_functions_of_one_batch_are_each_their_own() -> None:
    chosen = every()
    together = encode(
        [[Reading(s, np.array([0.5])) for s in chosen], [Reading(chosen[2], np.array([-60.0]))]], 6
    )
    points = at(STATE).expand(2, 1, 6)
    alone = sum(log_density(sensor, 0.5, STATE) for sensor in chosen)
    found = together.log_likelihood(points)
    assert float(found[0]) == pytest.approx(alone)
    assert float(found[1]) == pytest.approx(log_density(chosen[2], -60.0, STATE))
    single = together.to(dtype=torch.float32)
    assert single.value.dtype == torch.float32
    torch.testing.assert_close(single.log_likelihood(points.float()).double(), found, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.rows_of(slice(1, 2)).log_likelihood(points[1:]), found[1:])


def test_sensors_of_one_kind_share_a_program_whatever_their_parameters() -> None:
    chosen = [sensors.signal_strength([0, 1], 6, [x, 0.0], 2.0, -40.0 - x, 2.0) for x in (0.0, 1.0, 2.0)]
    functions = encode([[Reading(s, np.zeros(1)) for s in chosen]], 6).functions
    assert functions is not None
    assert len(functions.programs) == 1
    assert functions.parameters[0, :, 4].tolist() == [-40.0, -41.0, -42.0]


def test_where_a_function_has_no_value_a_report_is_as_unlikely_as_can_be() -> None:
    sensor = sensors.function(lambda state: state[0].log(), [0], 1, 0.1)
    observations = report(sensor, 0.0)
    found = observations.linearise(at(np.array([-1.0])), torch.ones(1, 1, 1, 1, dtype=torch.float64))
    assert float(found.residuals.log_likelihood) < -1e6
    finite = found.residuals._replace(log_odds=torch.zeros(1))  # infinite where no outlier is possible
    for part in (found.gradient, found.information, found.curvature, *finite):
        assert bool(part.isfinite().all())


def test_an_outlier_of_a_time_difference_is_uniform_on_what_the_receivers_allow() -> None:
    sensor = sensors.time_difference([0, 1], 2, [3.0, 0.0], [0.0, 4.0], 1e-3, 10.0, outlier_probability=0.2)
    assert log_density(sensor, -0.4, np.array([9.0, 0.0])) == pytest.approx(math.log(0.2 / 1.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sensors.time_difference([0], 1, [1.0], [1.0], 0.1), "second: expected another position"),
        (lambda: sensors.range_rate([0, 1], [2], 3, [0.0, 0.0], 0.1), "velocity_axes"),
        (lambda: sensors.elevation([0, 1], 2, [0.0, 0.0], 0.1), "axes: an elevation needs 3, got 2"),
        (lambda: sensors.function("elevation", [0, 1, 2], 3, 0.1, None, 0.1), "outlier_span: required"),
        (lambda: sensors.function("unheard of", [0], 1, 0.1), "function: no measurement is registered as"),
        (
            lambda: sensors.signal_strength([0], 1, [0.0], 1.0, -40.0, 2.0, reference_distance=0.0),
            "reference_distance: must be positive",
        ),
        (
            lambda: sensors.linear(np.eye(2), np.eye(2), noise=sensors.Noise()),
            "noise: expected a sensor of one number",
        ),
        (
            lambda: sensors.linear([[1.0]], [[1.0]], 0.1, noise=sensors.Noise()),
            "outlier_probability: expected 0 with noise, got 0.1",
        ),
    ],
)
def test_a_sensor_that_cannot_be_is_refused_with_the_field(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
