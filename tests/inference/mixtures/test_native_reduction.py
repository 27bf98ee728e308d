"""The native form of the reduction against PyTorch's operators, which share no code with it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.mixtures import native_reduction, reduction
from beliefstream.inference.mixtures.mixture import GaussianMixture, pad
from beliefstream.inference.mixtures.reduction import reduce_by_operators

few = settings(max_examples=100, deadline=None)
thresholds = st.sampled_from([0.0, 1e-3, 0.01, 0.5, 5.0])


def drawn(batch: int, components: int, size: int, generator: torch.Generator) -> GaussianMixture:
    """Mixtures of uneven weights; some components are negligible, some absent."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_weights = 3 * normal(batch, components)
    absent = normal(batch, components) > 1
    absent[:, 0] = False
    log_weights = log_weights.masked_fill(absent, -math.inf)
    factors = normal(batch, components, size, size)
    covariances = factors @ factors.mT + 0.1 * torch.eye(size, dtype=torch.float64)
    return GaussianMixture(log_weights.log_softmax(1), 2 * normal(batch, components, size), covariances)


def assert_equal(found: GaussianMixture, expected: GaussianMixture) -> None:
    assert found.components == expected.components
    for one, other in (
        (found.log_weights, expected.log_weights),
        (found.means, expected.means),
        (found.covariances, expected.covariances),
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)


@few
@given(
    batch=st.integers(1, 6),
    components=st.integers(1, 40),
    size=st.integers(1, 9),
    most=st.integers(1, 16),
    threshold=thresholds,
    seed=st.integers(0, 2**32 - 1),
)
def test_native_and_operators_make_the_same_merges(
    batch: int, components: int, size: int, most: int, threshold: float, seed: int
) -> None:
    mixture = drawn(batch, components, size, torch.Generator().manual_seed(seed))
    found = native_reduction.reduce(mixture, most, threshold)
    assert_equal(found, reduce_by_operators(mixture, most, threshold))


@few
@given(
    components=st.integers(2, 40),
    size=st.sampled_from([2, 4]),
    unit=st.sampled_from([1e-70, 1e-20, 1.0, 1e20, 1e70]),
    most=st.integers(1, 16),
    seed=st.integers(0, 2**32 - 1),
)
def test_native_and_operators_make_the_same_merges_in_any_unit(
    components: int, size: int, unit: float, most: int, seed: int
) -> None:
    """In two and four coordinates, pivots are multiplied where their product is a normal number."""
    mixture = drawn(2, components, size, torch.Generator().manual_seed(seed))
    scaled = GaussianMixture(mixture.log_weights, unit * mixture.means, unit * unit * mixture.covariances)
    found, expected = native_reduction.reduce(scaled, most, 0.01), reduce_by_operators(mixture, most, 0.01)
    back = GaussianMixture(found.log_weights, found.means / unit, found.covariances / unit / unit)
    present = expected.present
    assert torch.equal(found.present, present)
    for one, other in (
        (back.log_weights, expected.log_weights),
        (back.means, expected.means),
        (back.covariances, expected.covariances),
    ):
        torch.testing.assert_close(one[present], other[present], rtol=1e-9, atol=1e-9)


@few
@given(
    copies=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    most=st.integers(1, 8),
    threshold=thresholds.filter(bool),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_components_merge_in_the_same_order(
    copies: list[int], most: int, threshold: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = torch.repeat_interleave(torch.arange(len(copies)), torch.tensor(copies))
    order = places[torch.randperm(len(places), generator=generator)]
    mixture = drawn(2, len(copies), 2, generator).places(order.expand(2, -1)).normalised()
    found = native_reduction.reduce(mixture, most, threshold)
    assert_equal(found, reduce_by_operators(mixture, most, threshold))


@few
@given(pairs=st.integers(1, 12), merged=st.integers(0, 12), seed=st.integers(0, 2**32 - 1))
def test_of_equally_dear_pairs_the_same_ones_merge(pairs: int, merged: int, seed: int) -> None:
    order = torch.randperm(2 * pairs, generator=torch.Generator().manual_seed(seed))
    means = (100.0 * (order // 2) + order % 2).double()[None, :, None]  # two close ones every hundred
    weights = torch.full((1, 2 * pairs), 0.5 / pairs, dtype=torch.float64)
    mixture = GaussianMixture(weights.log(), means, torch.ones(1, 2 * pairs, 1, 1, dtype=torch.float64))
    most = 2 * pairs - min(merged, pairs)
    found = native_reduction.reduce(mixture, most, 1e-3)
    assert found.components == most
    assert_equal(found, reduce_by_operators(mixture, most, 1e-3))


def test_a_mixture_alone_is_reduced_as_in_a_batch() -> None:
    mixture = drawn(6, 24, 4, torch.Generator().manual_seed(0))
    mixture.means[2] = math.nan
    mixture.log_weights[4] = math.nan
    whole = native_reduction.reduce(mixture, 8, 0.01)
    for row in range(6):
        some = torch.tensor([row])
        alone = pad(native_reduction.reduce(mixture.rows(some), 8, 0.01), whole.components)
        if row != 4:
            torch.testing.assert_close(alone.log_weights[0], whole.log_weights[row], rtol=0, atol=0)
            torch.testing.assert_close(alone.means[0], whole.means[row], rtol=0, atol=0, equal_nan=True)
    assert bool(whole.log_weights[4].isnan().all())


@pytest.mark.parametrize(("dtype", "grad"), [(torch.float32, False), (torch.float64, True)])
def test_single_precision_and_gradients_are_left_to_operators(dtype: torch.dtype, grad: bool) -> None:
    mixture = drawn(2, 6, 2, torch.Generator().manual_seed(1)).to(dtype=dtype)
    mixture.means.requires_grad_(grad)
    reduced = reduction.reduce(mixture, 3)
    assert reduced.means.dtype == dtype
    assert reduced.means.requires_grad == grad
