"""The native quadrature along one bent observation against PyTorch's operators, which share no code with it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.likelihood.observations import ANGLE, RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update import native_curved_quadrature
from beliefstream.inference.update.curved_operators import solve_by_operators
from tests.inference.plain_models import Sensor, numbers, observe, random_mixture, random_normal
from tests.inference.update.test_native_closed_forms import assert_equal

few = settings(max_examples=30, deadline=None)
BATCH, MOST, MERGED = 5, 16, 0.002
EVERY = torch.arange(BATCH)


def sensor(seed: int, kind: int, size: int, touched: list[int], outliers: float, heading: bool) -> Sensor:
    """A turned one of the `touched` coordinates, some way off, which reports about what it should."""
    turn = torch.linalg.qr(random_normal(seed, len(touched), len(touched)))[0]
    rows = turn[:2] if kind == ANGLE else turn
    matrix = torch.zeros(len(rows), size, dtype=torch.float64)
    matrix[:, touched] = rows
    origin = random_normal(seed + 1, len(rows))
    origin = (20 + 20 * (seed % 3)) * origin / origin.norm()
    towards = torch.zeros(size, dtype=torch.float64)
    towards[touched[-1]] = 0.01 * heading
    noise, span = (0.03, 2 * math.pi) if kind == ANGLE else (0.3, 60.0)
    plain = Sensor(kind, matrix, numbers(0.0), noise, origin, towards, outliers, span)
    value = plain.predict(0.5 * random_normal(seed + 2, size)) + 2 * noise * random_normal(seed + 3, 1)
    return Sensor(kind, matrix, value, noise, origin, towards, outliers, span)


def problems(
    seed: int, kind: int, size: int, touched: list[int], outliers: float, heading: bool
) -> tuple[GaussianMixture, Observations]:
    mixture = random_mixture(seed, BATCH, 4, size)
    absent = torch.rand(BATCH, 4, generator=torch.Generator().manual_seed(seed)) < 0.3
    absent[:, 0] = False
    log_weights = mixture.log_weights.masked_fill(absent, -math.inf).log_softmax(1)
    prior = GaussianMixture(log_weights, 0.5 * mixture.means, mixture.covariances).ordered()
    chosen = [[sensor(seed + row, kind, size, touched, outliers, heading)] for row in range(BATCH)]
    return prior, observe(*chosen)


@few
@given(
    st.integers(0, 10_000),
    st.sampled_from(
        [
            (RANGE, 2, [0, 1], False),
            (RANGE, 4, [3, 1], False),
            (RANGE, 4, [0, 1, 2], False),
            (RANGE, 3, [1], False),
            (ANGLE, 4, [0, 1], False),
            (ANGLE, 4, [0, 2, 3], True),
        ]
    ),
    st.sampled_from([0.0, 1e-9, 0.2]),
)
def test_it_equals_the_operators(seed: int, shape: tuple[int, int, list[int], bool], outliers: float) -> None:
    kind, size, touched, heading = shape
    prior, observations = problems(seed, kind, size, touched, outliers, heading)
    axes = torch.tensor(sorted(touched)).expand(BATCH, -1).contiguous()
    found = native_curved_quadrature.solve(prior, observations.native, EVERY, axes, MOST, MERGED)
    expected = solve_by_operators(prior, observations, axes, MOST, MERGED)
    solved = expected[2].isfinite()
    assert torch.equal(found[2].isfinite(), solved)
    for part, other in zip(found[1:], expected[1:], strict=True):
        assert_equal(part[solved], other[solved], 1e-9)
    for part, other in zip(found[0].moments(), expected[0].moments(), strict=True):
        assert_equal(part[solved], other[solved], 1e-9)


def test_most_problems_of_that_kind_are_solved() -> None:
    """So that the comparison compares something."""
    solved = []
    for seed in range(20):
        prior, observations = problems(seed, RANGE, 4, [0, 1], 0.2, False)
        axes = torch.tensor([0, 1]).expand(BATCH, -1).contiguous()
        found = native_curved_quadrature.solve(prior, observations.native, EVERY, axes, MOST, MERGED)
        solved.append((found[2] < 0.005).double().mean())
    assert float(torch.stack(solved).mean()) > 0.8


@pytest.mark.parametrize("chosen", [[], [3], [4, 0]])
def test_only_the_problems_at_the_index_are_solved_in_its_order(chosen: list[int]) -> None:
    prior, observations = problems(1, RANGE, 4, [0, 1], 0.2, False)
    axes, index = (
        torch.tensor([[0, 1]]).expand(BATCH, -1).contiguous(),
        torch.tensor(chosen, dtype=torch.int64),
    )
    whole = native_curved_quadrature.solve(prior, observations.native, EVERY, axes, MOST, MERGED)
    some = native_curved_quadrature.solve(
        prior, observations.native, index, axes[: len(chosen)], MOST, MERGED
    )
    for part, other in zip(some[1:], whole[1:], strict=True):
        assert torch.equal(part.nan_to_num(), other[index].nan_to_num())
