"""Observations: derivatives, likelihoods and changes of coordinates against the models written plainly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, LINEAR, RANGE, Observations, wrap
from tests.inference.plain_models import (
    Sensor,
    assert_near,
    bearing,
    distance,
    linear,
    numbers,
    observe,
    random_covariances,
    random_normal,
)

seeds = st.integers(0, 10_000)
few = settings(max_examples=15, deadline=None)


def sensors(seed: int, dimension: int, outlier_probability: float = 0.1) -> list[Sensor]:
    """One of each kind, of every shape there is."""
    turn = torch.linalg.qr(random_normal(seed, dimension, dimension))[0]
    origin = 3 * random_normal(seed + 1, dimension)
    heading = 0.3 * random_normal(seed + 2, dimension)
    value = random_normal(seed + 3, dimension)
    inside = min(2, dimension)
    found = [
        linear(turn, value, 0.5, outlier_probability),
        linear(turn[:1], value[:1], 0.2, outlier_probability),
        Sensor(RANGE, turn, value[:1].abs() + 2, 0.3, origin, None, outlier_probability, 40.0),
        Sensor(
            RANGE, turn[:inside], value[:1].abs() + 2, 0.3, origin[:inside], None, outlier_probability, 40.0
        ),
    ]
    if dimension > 1:
        found += [
            Sensor(ANGLE, turn[:2], value[:1], 0.2, origin[:2], None, outlier_probability),
            Sensor(ANGLE, turn[:2], value[:1], 0.2, origin[:2], heading, outlier_probability),
        ]
    return found


def clear_of_sensors(chosen: list[Sensor], states: Tensor) -> bool:
    """Whether no state is close to a sensor, where the model softens the distance (by 1e-8, squared)."""
    placed = [(s.matrix, s.origin) for s in chosen if s.origin is not None]
    flat = states.reshape(-1, states.shape[-1])
    return all(bool(((flat @ a.mT - o).norm(dim=-1) > 0.3).all()) for a, o in placed)


def whitened_residual(sensor: Sensor, state: Tensor) -> Tensor:
    difference = sensor.value - sensor.predict(state)
    return (wrap(difference) if sensor.kind == ANGLE else difference) / sensor.noise


@few
@given(seeds, st.integers(1, 4))
def test_derivatives_are_those_of_automatic_differentiation(seed: int, dimension: int) -> None:
    chosen = sensors(seed, dimension)
    state = random_normal(seed + 7, dimension)
    assume(clear_of_sensors(chosen, state))
    factor = torch.linalg.cholesky(random_covariances(seed + 8, dimension=dimension))
    found = observe(chosen).linearise(state[None, None], factor[None, None])
    at_zero = torch.zeros(dimension, dtype=torch.float64)
    for index, sensor in enumerate(chosen):

        def predict(offset: Tensor, sensor: Sensor = sensor) -> Tensor:
            return sensor.predict(state + factor @ offset) / sensor.noise

        jacobian = torch.func.jacrev(predict)(at_zero)
        residual = whitened_residual(sensor, state)
        assert_near(found.gradient[0, 0, index], jacobian.mT @ residual, 1e-4)
        assert_near(found.information[0, 0, index], jacobian.mT @ jacobian, 1e-4)
        curvature = torch.func.hessian(predict)(at_zero).sum(0)
        if sensor.kind != LINEAR:
            assert_near(found.curvature[0, 0, index], curvature, 1e-4)
        else:
            assert bool((found.curvature[0, 0, index] == 0).all())


@few
@given(seeds, st.integers(1, 4))
def test_residuals_are_those_of_the_model(seed: int, dimension: int) -> None:
    chosen = sensors(seed, dimension)
    state = random_normal(seed + 7, dimension)
    assume(clear_of_sensors(chosen, state))
    found = observe(chosen).residuals(state[None, None])
    for index, sensor in enumerate(chosen):
        residual = whitened_residual(sensor, state)
        torch.testing.assert_close(found.squared[0, 0, index], residual @ residual, rtol=1e-6, atol=1e-6)
        expected = residual[0] if len(residual) == 1 else torch.zeros_like(residual[0])
        torch.testing.assert_close(found.signed[0, 0, index], expected, rtol=1e-6, atol=1e-6)


def likelihoods(sensor: Sensor, values: Tensor, state: Tensor) -> Tensor:
    """Likelihood of each of `values` ``(V, R)`` at one state, ``(V,)``."""
    one = observe([sensor])
    value = torch.zeros(len(values), 1, one.value.shape[-1], dtype=torch.float64)
    value[:, 0, : values.shape[1]] = values / (sensor.noise if sensor.kind == LINEAR else 1.0)
    rows = torch.zeros(len(values), dtype=torch.long)
    many = replace(one.rows_of(rows), value=value)
    return many.log_likelihood(state.expand(len(values), 1, -1))[:, 0].exp()


@pytest.mark.parametrize("outlier_probability", [0.0, 0.25])
def test_likelihood_integrates_to_one_over_the_value(outlier_probability: float) -> None:
    state = numbers(0.4, -0.3)
    near = numbers(-4.0, 2.0)
    cases = [
        (linear(numbers(2.0, 1.0)[None], numbers(0.0), 0.5, outlier_probability), (-60.0, 60.0)),
        (distance(near, 0.0, 0.3, outlier_probability, span=30.0), (0.0, 30.0)),
        (bearing(near, 0.0, 0.2, outlier_probability), (-math.pi, math.pi)),
    ]
    for sensor, (low, high) in cases:
        count = 20_000
        values = low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count
        total = likelihoods(sensor, values[:, None], state).sum() * (high - low) / count
        assert float(total) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("outlier_probability", [0.0, 0.25])
def test_likelihood_of_a_vector_integrates_to_one(outlier_probability: float) -> None:
    sensor = linear(torch.eye(2, dtype=torch.float64), numbers(0.0, 0.0), 0.5, outlier_probability)
    axis = torch.linspace(-40, 40, 801, dtype=torch.float64)
    total = likelihoods(sensor, torch.cartesian_prod(axis, axis), numbers(0.4, -0.3)).sum() * 0.1**2
    assert float(total) == pytest.approx(1.0, abs=1e-6)


@few
@given(seeds, st.integers(1, 4), st.floats(0.01, 100))
def test_new_coordinates_leave_the_likelihood_as_it_is(seed: int, dimension: int, scale: float) -> None:
    first, second = sensors(seed, dimension), sensors(seed + 100, dimension)[:3]
    observations = observe(first, second)
    shift, factor = random_normal(seed + 5, 2, dimension), numbers(scale, 2 * scale)
    points = random_normal(seed + 7, 2, 4, dimension)
    assume(clear_of_sensors(first, points[0]) and clear_of_sensors(second, points[1]))
    moved = observations.in_coordinates(shift, factor)
    inside = (points - shift[:, None]) / factor[:, None, None]
    torch.testing.assert_close(
        moved.log_likelihood(inside), observations.log_likelihood(points), rtol=1e-4, atol=1e-3
    )


@few
@given(seeds, st.integers(1, 4))
def test_new_coordinates_move_the_gradient_with_them(seed: int, dimension: int) -> None:
    chosen = sensors(seed, dimension)
    observations = observe(chosen)
    shift, scale = random_normal(seed + 5, 1, dimension), numbers(3.0)
    point = random_normal(seed + 7, 1, 1, dimension)
    assume(clear_of_sensors(chosen, point))
    eye = torch.eye(dimension, dtype=torch.float64)[None, None]
    moved = observations.in_coordinates(shift, scale).linearise((point - shift[:, None]) / 3.0, eye)
    here = observations.linearise(point, 3.0 * eye)
    torch.testing.assert_close(moved.gradient, here.gradient, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moved.information, here.information, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(moved.curvature, here.curvature, rtol=1e-4, atol=1e-4)


def test_places_not_used_have_no_effect() -> None:
    chosen = sensors(3, 3)
    padded = observe(chosen[:2], chosen)
    points = random_normal(1, 1, 5, 3)
    expected = observe(chosen[:2]).log_likelihood(points)
    torch.testing.assert_close(padded.rows_of(slice(0, 1)).log_likelihood(points), expected)


def test_the_likelihood_of_several_is_the_product_of_each() -> None:
    chosen = sensors(3, 3)
    points = random_normal(1, 1, 5, 3)
    each = [observe([sensor]).log_likelihood(points) for sensor in chosen]
    torch.testing.assert_close(observe(chosen).log_likelihood(points), torch.stack(each).sum(0))


def test_without_outliers_the_likelihood_is_the_noise_density() -> None:
    sensor = linear(torch.eye(2, dtype=torch.float64), numbers(1.0, -1.0), 0.7)
    point = numbers(0.2, 0.1)
    squared = ((sensor.value - point) / 0.7).square().sum()
    expected = -0.5 * squared - math.log(2 * math.pi * 0.7**2)
    found = observe([sensor]).log_likelihood(point[None, None])[0, 0]
    assert_near(found, expected, 1e-9)


def test_bearings_either_side_of_the_cut_are_close() -> None:
    sensor = bearing(numbers(0.0, 0.0), math.pi - 0.01, 0.1)
    found = observe([sensor]).residuals(numbers(-1.0, -0.01)[None, None])
    assert float(found.signed) == pytest.approx(-0.2, abs=1e-3)


@given(st.floats(-1e4, 1e4))
def test_wrapped_angles_are_the_same_directions(angle: float) -> None:
    wrapped = wrap(numbers(angle))
    assert -math.pi <= float(wrapped) <= math.pi
    assert math.cos(float(wrapped)) == pytest.approx(math.cos(angle), abs=1e-9)
    assert math.sin(float(wrapped)) == pytest.approx(math.sin(angle), abs=1e-9)


def test_everything_is_finite_at_the_sensor_itself() -> None:
    origin = numbers(1.0, 2.0)
    observations = observe([distance(origin, 0.5, 0.1), bearing(origin, 0.5, 0.1)])
    eye = torch.eye(2, dtype=torch.float64)[None, None]
    found = observations.linearise(origin[None, None], eye)
    finite = found.residuals._replace(log_odds=torch.zeros(1))  # infinite where no outlier is possible
    for part in (found.gradient, found.information, found.curvature, *finite):
        assert bool(part.isfinite().all())
    assert bool((found.residuals.log_odds == math.inf).all())


def test_casting_changes_numbers_but_not_kinds() -> None:
    single = observe(sensors(3, 3)).to(dtype=torch.float32)
    assert isinstance(single, Observations)
    assert single.kind.dtype == torch.int64
    assert single.mask.dtype == torch.bool
    assert single.value.dtype == torch.float32 == single.outlier_log_density.dtype
