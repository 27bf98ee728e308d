"""Splitting keeps weight, mean and covariance, and comes near the Gaussian that it splits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.splitting import DIVISIONS, NARROWER, OFFSET, OUTER_WEIGHT, divide, split
from tests.inference.plain_models import assert_near, random_mixture


def some_split(seed: int, size: int) -> tuple[GaussianMixture, GaussianMixture, torch.Tensor]:
    mixture = random_mixture(seed, 4, 3, size)
    generator = torch.Generator().manual_seed(seed)
    line = torch.nn.functional.normalize(torch.randn(4, 3, size, generator=generator).double(), dim=2)
    direction = (mixture.factors() @ line[..., None])[..., 0]
    which = (torch.rand(4, 3, generator=generator) < 0.5) & mixture.present
    labels = torch.arange(3).expand(4, -1)
    parts, source = split(mixture, labels, which, direction)
    assert parts.components == int((mixture.present.sum(1) + 2 * which.sum(1)).max())
    return mixture, parts, source


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_every_component_keeps_its_weight_mean_and_covariance(seed: int, size: int) -> None:
    mixture, parts, source = some_split(seed, size)
    for label in range(3):
        share = torch.where(source == label, parts.log_weights.exp(), 0.0)
        total = share.sum(1)
        assert_near(total, mixture.log_weights.exp()[:, label], 1e-12)
        share = share / total[:, None]
        mean = (share[..., None] * parts.means).sum(1)
        offset = parts.means - mean[:, None]
        spread = parts.covariances + offset[..., :, None] * offset[..., None, :]
        assert_near(mean, mixture.means[:, label], 1e-9)
        assert_near((share[..., None, None] * spread).sum(1), mixture.covariances[:, label], 1e-9)
    assert bool((torch.linalg.eigvalsh(parts.covariances) > 0).all())


def test_three_in_a_row_are_within_a_thousandth_of_a_nat_of_the_one() -> None:
    points = np.linspace(-9, 9, 4001)

    def density(mean: float, deviation: float) -> np.ndarray:
        return np.exp(-0.5 * ((points - mean) / deviation) ** 2) / deviation / math.sqrt(2 * math.pi)

    sides = density(OFFSET, NARROWER) + density(-OFFSET, NARROWER)
    three = (1 - 2 * OUTER_WEIGHT) * density(0, NARROWER) + OUTER_WEIGHT * sides
    one = density(0, 1)
    assert float((one * np.log(one / three)).sum() * (points[1] - points[0])) < 1e-3


@pytest.mark.parametrize("place", range(len(DIVISIONS)))
def test_a_division_keeps_mean_and_covariance_and_is_as_near_as_it_says(place: int) -> None:
    division = DIVISIONS[place]
    points = np.linspace(-9, 9, 4001)

    def density(mean: float, deviation: float) -> np.ndarray:
        return np.exp(-0.5 * ((points - mean) / deviation) ** 2) / deviation / math.sqrt(2 * math.pi)

    parts = division.places()
    assert len(parts) == division.parts
    assert sum(weight for weight, _ in parts) == pytest.approx(1)
    assert sum(weight * offset**2 for weight, offset in parts) == pytest.approx(1 - division.narrower**2)
    one, several = density(0, 1), sum(weight * density(at, division.narrower) for weight, at in parts)
    lost = float((one * np.log(one / several)).sum() * (points[1] - points[0]))
    assert lost == pytest.approx(division.divergence, abs=1e-4)


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_divided_each_its_own_way_a_mixture_keeps_mean_covariance_and_order(seed: int, size: int) -> None:
    mixture = random_mixture(seed, 4, 3, size)
    generator = torch.Generator().manual_seed(seed)
    line = torch.nn.functional.normalize(torch.randn(4, 3, size, generator=generator).double(), dim=2)
    direction = (mixture.factors() @ line[..., None])[..., 0]
    division = torch.randint(len(DIVISIONS), (4, 3), generator=generator)
    found, _ = divide(mixture, division, direction)
    count = torch.tensor([each.parts for each in DIVISIONS])[division].sum(1)
    assert torch.equal(found.present.sum(1), count) and found.components == int(count.max())
    assert bool((found.log_weights.diff(dim=1) <= 0)[found.present[:, 1:]].all())
    for ours, theirs in zip(found.moments(), mixture.moments(), strict=True):
        assert_near(ours, theirs, 1e-9)
