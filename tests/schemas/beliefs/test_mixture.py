from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from beliefstream.schemas import Mixture, Reason, explain, reason_of
from tests.schemas.messages import mixtures, relaxed

TWO: dict[str, Any] = {
    "weights": [0.25, 0.75],
    "means": [[0.0, 0.0], [4.0, 0.0]],
    "covariances": [[[1.0, 0.5], [0.5, 1.0]], [[2.0, 0.0], [0.0, 3.0]]],
}


def refused(**fields: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Mixture.model_validate({**TWO, **fields})
    return caught.value


@relaxed
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=256), st.floats(-0.9e-6, 0.9e-6))
def test_weights_that_nearly_sum_to_one_are_renormalised(raw: list[float], excess: float) -> None:
    weights = tuple(weight / math.fsum(raw) * (1 + excess) for weight in raw)
    count = len(weights)
    mixture = Mixture(weights=weights, means=((0.0,),) * count, covariances=(((1.0,),),) * count)
    assert math.fsum(mixture.weights) == pytest.approx(1, abs=2e-12)
    assert mixture.weights == pytest.approx(weights, rel=2e-6)


@relaxed
@given(mixtures())
def test_validating_again_changes_nothing(mixture: Mixture) -> None:
    assert Mixture.model_validate(mixture.model_dump()) == mixture


@pytest.mark.parametrize(
    "weights", [[0.5, 0.6], [0.25, 0.75001], [-0.25, 1.25], [0, 0], [0.2, 0.3, 0.5], [1], []]
)
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    assert "weights" in explain(refused(weights=weights))


@pytest.mark.parametrize("means", [[[0, 0]], [[0], [0]], [[0, 0], [0]], [[], []], [[0] * 17] * 2])
def test_means_of_other_sizes_are_refused(means: list[list[float]]) -> None:
    refused(means=means)


@pytest.mark.parametrize(
    "second",
    [
        [[1, 2], [2, 1]],  # indefinite
        [[1, 1], [1, 1]],  # singular
        [[0, 0], [0, 0]],
        [[1, 0.01], [0, 1]],  # not symmetric
        [[1]],
        [[1, 0], [0]],
        [],
    ],
)
def test_matrices_that_are_no_covariances_are_refused(second: list[list[float]]) -> None:
    error = refused(covariances=[TWO["covariances"][0], second])
    assert reason_of(error) == Reason.invalid_covariance
    assert explain(error).startswith("covariances: ")


def test_the_component_at_fault_is_named() -> None:
    error = refused(covariances=[TWO["covariances"][0], [[1, 2], [2, 1]]])
    assert "component 1 is not" in explain(error)


@pytest.mark.parametrize("field", ["weights", "means", "covariances"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(field: str, number: float) -> None:
    array = np.array(TWO[field])
    array.flat[0] = number
    assert reason_of(refused(**{field: array.tolist()})) == Reason.not_finite


def test_more_than_256_components_are_refused() -> None:
    refused(weights=[1 / 257] * 257, means=[[0.0]] * 257, covariances=[[[1.0]]] * 257)


def test_a_rounding_error_in_the_symmetry_is_removed() -> None:
    mixture = Mixture(weights=(1.0,), means=((0.0, 0.0),), covariances=(((1.0, 0.5), (0.5 + 1e-9, 1.0)),))
    matrix = mixture.covariances[0]
    assert matrix[0][1] == matrix[1][0] == pytest.approx(0.5, abs=1e-9)


def test_numpy_arrays_are_taken() -> None:
    arrays = {name: np.array(values) for name, values in TWO.items()}
    assert Mixture.model_validate(arrays) == Mixture.model_validate(TWO)


def test_moments_are_those_of_the_whole_mixture() -> None:
    mixture = Mixture.model_validate(TWO)
    assert (mixture.components, mixture.dimension) == (2, 2)
    np.testing.assert_allclose(mixture.mean(), [3.0, 0.0])
    # within: 0.25 * 1 + 0.75 * 2; between: 0.25 * 3^2 + 0.75 * 1^2
    np.testing.assert_allclose(mixture.covariance(), [[1.75 + 3.0, 0.125], [0.125, 2.5]])
    np.testing.assert_allclose(mixture.standard_deviations(), np.sqrt([4.75, 2.5]))


def test_a_gaussian_by_standard_deviations_or_covariance() -> None:
    both = Mixture.gaussian([1, 2], 3.0), Mixture.gaussian([1, 2], covariance=np.diag([9, 9]))
    assert both[0] == both[1]
    assert Mixture.gaussian([1, 2], [1.0, 2.0]).covariances == (((1.0, 0.0), (0.0, 4.0)),)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"standard_deviations": 1.0, "covariance": [[1.0, 0.0], [0.0, 1.0]]},
        {"standard_deviations": [1.0, 2.0, 3.0]},
        {"standard_deviations": 0.0},
        {"standard_deviations": -1.0},
        {"standard_deviations": [1.0, -2.0]},
        {"standard_deviations": math.nan},
        {"standard_deviations": math.inf},
        {"standard_deviations": 1e-200},
        {"standard_deviations": 1e200},
        {"covariance": [[1.0]]},
    ],
)
def test_a_gaussian_without_a_sound_width_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Mixture.gaussian([1, 2], **arguments)
