"""The reduction against the same merges, written plainly."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT, reduce

few = settings(max_examples=50, deadline=None)
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
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, equal_nan=True)


Part = tuple[float, NDArray[np.float64], NDArray[np.float64]]  # weight, mean, covariance


def plainly(mixture: GaussianMixture, most: int, threshold: float) -> GaussianMixture:
    """As `reduce`, one mixture after another."""
    reduced = []
    for row in range(mixture.batch):
        weights = torch.softmax(mixture.log_weights[row], 0).numpy()
        weights = np.where(weights < NEGLIGIBLE_WEIGHT * weights.max(), 0, weights)
        weights /= weights.sum()
        order = [k for k in np.argsort(-weights, kind="stable") if weights[k] > 0]
        parts = [
            (weights[k], mixture.means[row, k].numpy(), mixture.covariances[row, k].numpy()) for k in order
        ]
        while chosen := pairs(parts, most, threshold):
            for one, other in chosen:
                parts[one] = merged(parts[one], parts[other])
            parts = [part for k, part in enumerate(parts) if k not in {other for _, other in chosen}]
        reduced.append(sorted(parts, key=lambda part: -part[0]))
    places = max(map(len, reduced))
    found = GaussianMixture(
        torch.full((mixture.batch, places), -math.inf, dtype=torch.float64),
        torch.zeros(mixture.batch, places, mixture.dimension, dtype=torch.float64),
        torch.eye(mixture.dimension, dtype=torch.float64).repeat(mixture.batch, places, 1, 1),
    )
    for row, parts in enumerate(reduced):
        for place, (weight, mean, covariance) in enumerate(parts):
            found.log_weights[row, place] = math.log(weight)
            found.means[row, place] = torch.from_numpy(mean)
            found.covariances[row, place] = torch.from_numpy(covariance)
    return found


def merged(one: Part, other: Part) -> Part:
    """One Gaussian with the moments of two."""
    weight = one[0] + other[0]
    share, offset = one[0] / weight, one[1] - other[1]
    covariance = share * one[2] + (1 - share) * other[2] + share * (1 - share) * np.outer(offset, offset)
    return weight, share * one[1] + (1 - share) * other[1], covariance


def pairs(parts: list[Part], most: int, threshold: float) -> list[tuple[int, int]]:
    """The pairs to merge now: mutually cheapest ones below the threshold, else the cheapest of too many."""
    count = len(parts)
    weights, means, covariances = (np.stack(field) for field in zip(*parts, strict=True))
    total = weights[:, None] + weights
    share, offset = (weights[:, None] / total)[..., None, None], means[:, None] - means
    spread = offset[..., :, None] * offset[..., None, :]
    joint = share * covariances[:, None] + (1 - share) * covariances + share * (1 - share) * spread
    own = weights * np.linalg.slogdet(covariances)[1]
    cost = 0.5 * (total * np.linalg.slogdet(joint)[1] - own[:, None] - own)
    cost[np.arange(count), np.arange(count)] = np.inf
    cost = np.minimum(cost, cost.T)
    # rounding must not decide between equal costs
    cost = np.round(cost, 13)
    nearest = [int(cost[i].argmin()) for i in range(count)]
    mutual = [(i, j) for i, j in enumerate(nearest) if nearest[j] == i and i < j and cost[i, j] < np.inf]
    cheap = [pair for pair in mutual if cost[pair] < threshold]
    return cheap or sorted(mutual, key=lambda pair: cost[pair])[: max(0, count - most)]


@few
@given(
    batch=st.integers(1, 4),
    components=st.integers(1, 40),
    size=st.integers(1, 20),
    most=st.integers(1, 16),
    threshold=thresholds,
    seed=st.integers(0, 2**32 - 1),
)
def test_the_merges_are_those_of_the_plain_form(
    batch: int, components: int, size: int, most: int, threshold: float, seed: int
) -> None:
    mixture = drawn(batch, components, size, torch.Generator().manual_seed(seed))
    found = reduce(mixture, most, threshold)
    assert_equal(found, plainly(mixture, most, threshold))


@few
@given(
    components=st.integers(2, 40),
    size=st.sampled_from([2, 4]),
    unit=st.sampled_from([1e-70, 1e-20, 1.0, 1e20, 1e70]),
    most=st.integers(1, 16),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_merges_are_the_same_in_any_unit(
    components: int, size: int, unit: float, most: int, seed: int
) -> None:
    """In two and four coordinates, pivots are multiplied where their product is a normal number."""
    mixture = drawn(2, components, size, torch.Generator().manual_seed(seed))
    scaled = GaussianMixture(mixture.log_weights, unit * mixture.means, unit * unit * mixture.covariances)
    found, expected = reduce(scaled, most, 0.01), plainly(mixture, most, 0.01)
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
    found = reduce(mixture, most, threshold)
    assert_equal(found, plainly(mixture, most, threshold))


@few
@given(pairs=st.integers(1, 12), merged=st.integers(0, 12), seed=st.integers(0, 2**32 - 1))
def test_of_equally_dear_pairs_the_same_ones_merge(pairs: int, merged: int, seed: int) -> None:
    order = torch.randperm(2 * pairs, generator=torch.Generator().manual_seed(seed))
    means = (100.0 * (order // 2) + order % 2).double()[None, :, None]  # two close ones every hundred
    weights = torch.full((1, 2 * pairs), 0.5 / pairs, dtype=torch.float64)
    mixture = GaussianMixture(weights.log(), means, torch.ones(1, 2 * pairs, 1, 1, dtype=torch.float64))
    most = 2 * pairs - min(merged, pairs)
    found = reduce(mixture, most, 1e-3)
    assert found.components == most
    assert_equal(found, plainly(mixture, most, 1e-3))


def test_a_mixture_alone_is_reduced_as_in_a_batch() -> None:
    mixture = drawn(6, 24, 4, torch.Generator().manual_seed(0))
    mixture.means[2] = math.nan
    mixture.log_weights[4] = math.nan
    whole = reduce(mixture, 8, 0.01)
    for row in range(6):
        some = torch.tensor([row])
        alone = reduce(mixture.rows(some), 8, 0.01).padded(whole.components)
        if row != 4:
            expected = whole.rows(some).padded(whole.components)
            torch.testing.assert_close(alone.log_weights, expected.log_weights, rtol=0, atol=0)
            torch.testing.assert_close(alone.means, expected.means, rtol=0, atol=0, equal_nan=True)
    assert bool(whole.log_weights[4].isnan().all())


def test_an_answer_has_the_precision_of_what_is_given() -> None:
    mixture = drawn(2, 6, 2, torch.Generator().manual_seed(1))
    found, single = reduce(mixture, 3), reduce(mixture.to(dtype=torch.float32), 3)
    assert single.means.dtype == torch.float32
    torch.testing.assert_close(single.means, found.means.float(), rtol=1e-4, atol=1e-4)
