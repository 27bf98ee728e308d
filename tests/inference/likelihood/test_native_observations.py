"""Compiled likelihoods and linearisations against the network's, which PyTorch's operators compute."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference import sensors as kinds
from beliefstream.inference.likelihood import native_observations
from beliefstream.inference.likelihood.native_terms import BENT
from beliefstream.inference.likelihood.noise import Noise
from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.network import linearisation
from beliefstream.inference.sensors import Reading, Sensor, encode
from tests.inference.likelihood import operators
from tests.inference.likelihood.test_observations import sensors
from tests.inference.plain_models import observe, random_covariances, random_normal

few = settings(max_examples=40, deadline=None)
seeds, sizes = st.integers(0, 10_000), st.integers(1, 6)
probabilities = st.sampled_from([0.0, 1e-9, 0.1, 1.0])


def problem(
    seed: int, size: int, probability: float, spread: float = 2.0
) -> tuple[Observations, Tensor, Tensor]:
    """Observations of every kind for two entities, one of which has fewer, with 70 points."""
    seen = observe(sensors(seed, size, probability), sensors(seed + 1, size, probability)[:2])
    points = spread * random_normal(seed + 2, 2, 70, size)
    return seen, points, torch.linalg.cholesky(random_covariances(seed + 3, 2, 70, dimension=size))


def parts(found: Linearisation) -> list[Tensor]:
    residuals = found.residuals
    return [*found[:4], *residuals[:4], residuals.deviation.expand_as(residuals.signed)]


def used(seen: Observations, part: Tensor) -> Tensor:
    """The part, with zeros for the observations that the mask leaves out."""
    mask = seen.mask[:, None].reshape(len(seen.mask), 1, -1, *[1] * (part.dim() - 3))
    return torch.where(mask, part, 0.0)


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    # rounding is beside the largest terms of a sum
    largest = max([1.0, *expected[expected.isfinite()].abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


@few
@given(seed=seeds, size=sizes, probability=probabilities, spread=st.sampled_from([0.1, 2.0, 1e4]))
def test_both_linearise_alike(seed: int, size: int, probability: float, spread: float) -> None:
    seen, points, factors = problem(seed, size, probability, spread)
    expected = operators.by_operators(seen, points, factors)
    for one, other in zip(parts(seen.linearise(points, factors)), parts(expected), strict=True):
        assert_equal(used(seen, one), used(seen, other))
    for one, other in zip(seen.residuals(points), parts(expected)[4:], strict=True):
        assert_equal(used(seen, one), used(seen, other))
    total = (expected.residuals.log_likelihood * seen.mask[:, None]).sum(-1)
    assert_equal(seen.log_likelihood(points), total)


@few
@given(seed=seeds, size=sizes)
def test_single_precision_is_rounded_only_at_the_end(seed: int, size: int) -> None:
    double, points, factors = problem(seed, size, 0.1)
    seen, points, factors = double.to(dtype=torch.float32), points.float(), factors.float()
    expected = operators.by_operators(seen.to(dtype=torch.float64), points.double(), factors.double())
    for one, other in zip(parts(seen.linearise(points, factors)), parts(expected), strict=True):
        assert one.dtype == torch.float32
        assert_equal(used(seen, one), used(seen, other).float(), 1e-6)


def test_an_entity_alone_has_the_same_numbers_as_in_a_batch() -> None:
    seen, points, factors = problem(5, 3, 0.1)
    together = parts(seen.linearise(points, factors))
    for row, place in ((0, 7), (1, 69)):
        one, some = slice(row, row + 1), slice(place, place + 1)
        alone = parts(seen.rows_of(one).linearise(points[one, some], factors[one, some]))
        for found, expected in zip(alone[:-1], together[:-1], strict=True):
            assert torch.equal(found[0, 0], expected[row, place])
        assert torch.equal(
            seen.rows_of(one).log_likelihood(points[one, some]), seen.log_likelihood(points)[one, some]
        )


def test_a_number_that_is_none_stays_with_its_point() -> None:
    seen, points, factors = problem(6, 2, 0.1)
    points[0, 3, 0] = math.nan
    found, expected = seen.linearise(points, factors), operators.by_operators(seen, points, factors)
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert torch.equal(used(seen, one).isnan(), used(seen, other).isnan())


def test_what_the_mask_leaves_out_is_zero() -> None:
    seen, points, factors = problem(7, 2, 0.1)
    assert not bool(seen.mask.all())
    for part in parts(seen.linearise(points, factors))[:-1]:
        assert float(part.movedim(2, 1)[~seen.mask].abs().amax()) == 0.0


def test_the_network_has_gradients() -> None:
    seen, points, factors = problem(8, 2, 0.1)
    points.requires_grad_(True)
    found = (
        linearisation.linearise(seen, points, factors).gradient,
        linearisation.log_likelihood(seen, points),
    )
    assert all(each.requires_grad for each in found)


def test_curvature_is_bounded_at_a_sensor() -> None:
    seen, points, factors = problem(9, 2, 0.0)
    points[0, 0] = torch.linalg.solve(seen.matrix[0, 2], seen.origin[0, 2])
    assert float(seen.linearise(points, factors).curvature.abs().amax()) <= BENT


NOISES = (
    None,
    Noise((0.7, 0.3), (0.0, 0.4), (1.0, 3.0)),
    Noise(slope=0.1),
    Noise((1.0,), (0.2,), (2.0,), 0.05),
)


def own(state: Tensor, size: Tensor) -> Tensor:
    """A function of the user."""
    return (state.square().sum() + size).sqrt()


def functions(noise: Noise | None) -> list[Sensor]:
    """Every built-in function over six coordinates, a bearing and a range with the same noise, and one of the user."""
    place = [0.3, -2.0, 1.0]
    receivers = [[4.0, 0.0], [-3.0, 1.0], [0.0, 5.0]]
    many = kinds.time_differences([0, 1], 6, receivers, [[0.04, 0.01], [0.01, 0.09]], 3.0)
    near = kinds.pseudorange([0, 1, 2], 4, 6, kinds.LocalFrame(np.zeros(3), np.eye(3)), 0.3, 0.1, noise=noise)
    return [
        kinds.elevation([0, 1, 2], 6, place, 0.3, 0.1, noise=noise),
        kinds.depth([0, 1], 2, 6, place[:2], 0.3, 0.1, noise=noise),
        kinds.range_rate([0, 1, 2], [3, 4, 5], 6, place, 0.5, 0.1, noise=noise),
        kinds.signal_strength([0, 1], 6, place[:2], 2.0, -40.0, 2.5, outlier_probability=0.1, noise=noise),
        kinds.time_difference([0, 1], 6, receivers[0], receivers[1], 0.3, 2.0, 0.1, noise=noise),
        *many.parts,
        replace(near, parameters=np.array([3.0, -2.0, 5.0])),
        kinds.pseudorange_rate(
            [0, 1, 2], [3, 4, 5], 1, 6, kinds.LocalFrame(np.zeros(3), np.eye(3)), 0.3, noise=noise
        ),
        kinds.bearing([0, 1], 6, place[:2], 0.3, 0.1, noise=noise),
        kinds.range_to([0, 1, 2], 6, place, 0.3, 0.1, 40.0, noise=noise),
        kinds.linear([[1.0, 0.5, 0.0, 0.0, 2.0, 0.0]], [[0.3]], noise=noise),
        kinds.function(own, [0, 3], 6, 0.3, {"size": 0.5}, 0.1, 20.0, noise=noise),
    ]


@few
@given(seed=seeds, noise=st.sampled_from(NOISES), whole=st.booleans())
def test_both_linearise_every_function_and_noise_alike(seed: int, noise: Noise | None, whole: bool) -> None:
    generator = np.random.default_rng(seed)
    chosen = functions(noise)[: None if whole else -1]
    rows = [[Reading(sensor, generator.normal(size=1)) for sensor in some] for some in (chosen, chosen[::2])]
    seen, points = encode(rows, 6), 3 * random_normal(seed, 2, 5, 6)
    assert (seen.native is None) == whole
    factors = torch.linalg.cholesky(random_covariances(seed + 3, 2, 5, dimension=6))
    found, expected = seen.linearise(points, factors), operators.by_operators(seen, points, factors)
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert_equal(used(seen, one), used(seen, other), 1e-9)
    for one, other in zip(seen.residuals(points), parts(expected)[4:], strict=True):
        assert_equal(used(seen, one), used(seen, other), 1e-9)
    total = (expected.residuals.log_likelihood * seen.mask[:, None]).sum(-1)
    assert_equal(seen.log_likelihood(points), total, 1e-9)


@few
@given(seed=seeds, noise=st.sampled_from(NOISES))
def test_functions_are_smoothed_alike(seed: int, noise: Noise | None) -> None:
    """Signal strengths in two coordinates, and on a line a range rate and a time difference."""
    chosen = [
        kinds.signal_strength([0, 1], 2, [0.5, 1.0], 2.0, -40.0, 2.5, noise=noise),
        kinds.range_rate([0], [1], 2, [0.5], 0.4, noise=noise),
        kinds.time_difference([0], 2, [3.0], [-2.0], 0.3, 2.0, noise=noise),
        kinds.linear([[1.0, 0.5]], [[0.3]], noise=noise),
    ]
    generator = np.random.default_rng(seed)
    seen = encode([[Reading(sensor, generator.normal(size=1))] for sensor in chosen], 2)
    points, factors = random_normal(seed, 4, 6, 2), 0.3 * torch.eye(2).double().expand(4, 6, 2, 2)
    linear = operators.by_operators(seen, points, factors)
    varied = (
        linear.information.diagonal(dim1=-2, dim2=-1).sum(-1) + linear.curvature.square().sum((-2, -1)) / 2
    )
    squared, likelihood = linear.residuals.squared, linear.residuals.log_likelihood
    expected = likelihood + 0.5 * squared * varied / (1 + varied) - 0.5 * varied.log1p()
    assert seen.native is not None
    found, change = native_observations.smoothed(seen.native, points, factors)
    widest = seen.matrix.shape[2]
    assert widest == 2
    assert_equal(found, expected.sum(-1), 1e-9)
    assert_equal(change, torch.maximum(varied, expected - likelihood).amax(-1), 1e-9)
