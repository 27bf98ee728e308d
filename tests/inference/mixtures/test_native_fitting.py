"""The fit of mixtures to weighted points in the plane."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures import native_fitting
from beliefstream.inference.mixtures.mixture import GaussianMixture

GAIN = 1e-5


def lattice(mixture: GaussianMixture, side: float, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Points of a lattice, weighted by the density of a mixture, and the covariances within their cells."""
    axis = torch.arange(-side, side, step, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)[None]
    shares = torch.softmax(mixture.log_density(points), 1)
    spread = torch.tensor([step**2 / 12, 0.0, step**2 / 12], dtype=torch.float64)
    return points, shares, spread.expand(1, points.shape[1], 3).contiguous()


def mixture_of(weights: list[float], means: list[list[float]], deviations: list[float]) -> GaussianMixture:
    eye = torch.eye(2, dtype=torch.float64)
    covariances = torch.stack([deviation**2 * eye for deviation in deviations])
    given = torch.tensor(weights, dtype=torch.float64), torch.tensor(means, dtype=torch.float64), covariances
    return GaussianMixture.from_weights(*(part[None] for part in given))


NOT_WIDE = torch.zeros(1, dtype=torch.bool)
APART = mixture_of([0.3, 0.7], [[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.8])
INSIDE = mixture_of([0.6, 0.4], [[0.0, 0.0], [0.0, 0.0]], [0.3, 2.0])


def test_two_gaussians_that_lie_apart_are_found() -> None:
    found = native_fitting.fit(*lattice(APART, 6.0, 0.2), NOT_WIDE, 2, 100, GAIN).ordered()
    torch.testing.assert_close(
        found.log_weights[0].exp().flip(0), torch.tensor([0.3, 0.7]).double(), atol=0.01, rtol=0
    )
    torch.testing.assert_close(found.means[0].flip(0), APART.means[0], atol=0.02, rtol=0)
    torch.testing.assert_close(found.covariances[0].flip(0), APART.covariances[0], atol=0.03, rtol=0)


def test_a_narrow_gaussian_inside_a_wide_one_is_found_with_a_wide_start() -> None:
    points, shares, spreads = lattice(INSIDE, 7.0, 0.2)
    found = native_fitting.fit(points, shares, spreads, ~NOT_WIDE, 3, 500, 1e-7)
    lost = (shares * (INSIDE.log_density(points) - found.log_density(points))).sum()
    assert 0 <= float(lost) < 0.01


def test_a_fit_has_the_moments_of_the_points() -> None:
    points, shares, spreads = lattice(APART, 6.0, 0.2)
    found = native_fitting.fit(points, shares, 0 * spreads, NOT_WIDE, 5, 20, GAIN)
    mean, covariance = found.moments()
    exact = (shares[..., None] * points).sum(1)
    offset = points - exact[:, None]
    torch.testing.assert_close(mean, exact, atol=1e-9, rtol=0)
    torch.testing.assert_close(covariance, (shares[..., None] * offset).mT @ offset, atol=1e-9, rtol=0)
    assert abs(float(found.log_weights.exp().sum()) - 1) < 1e-12


def test_more_steps_raise_the_density_of_the_points() -> None:
    points, shares, spreads = lattice(INSIDE, 7.0, 0.2)
    found = [
        native_fitting.fit(points, shares, 0 * spreads, ~NOT_WIDE, 4, steps, -1.0) for steps in (1, 5, 30)
    ]
    heights = [float((shares * each.log_density(points)).sum()) for each in found]
    assert heights == sorted(heights)
    assert heights[2] > heights[0] + 0.01


def test_points_without_shares_do_not_matter() -> None:
    points, shares, spreads = lattice(APART, 6.0, 0.4)
    more = torch.full((1, 50, 2), 1e6, dtype=torch.float64)
    nothing = torch.zeros(1, 50, dtype=torch.float64)
    one = native_fitting.fit(points, shares, spreads, NOT_WIDE, 3, 20, GAIN)
    other = native_fitting.fit(
        torch.cat([points, more], 1),
        torch.cat([shares, nothing], 1),
        torch.cat([spreads, torch.zeros(1, 50, 3, dtype=torch.float64)], 1),
        NOT_WIDE,
        3,
        20,
        GAIN,
    )
    torch.testing.assert_close(other.means, one.means, atol=1e-12, rtol=0)
    torch.testing.assert_close(other.covariances, one.covariances, atol=1e-12, rtol=0)


def test_no_component_is_narrower_than_a_cell() -> None:
    """Many components and few points: each could stand on a point of its own."""
    points, shares, spreads = lattice(mixture_of([1.0], [[0.0, 0.0]], [1.0]), 3.0, 0.6)
    found = native_fitting.fit(points, shares, spreads, NOT_WIDE, 16, 300, GAIN)
    least = torch.linalg.eigvalsh(found.covariances[found.present]).min()
    assert float(least) > 0.5 * 0.6**2 / 12


def test_few_points_get_few_components() -> None:
    points, shares, spreads = lattice(mixture_of([1.0], [[0.0, 0.0]], [1.0]), 1.0, 0.5)
    found = native_fitting.fit(points, shares, spreads, NOT_WIDE, 16, 5, GAIN)
    assert points.shape[1] == 16
    assert found.present.sum().item() < 4
    assert math.isfinite(float(found.log_density(points).min()))


def test_a_fit_to_lines_is_no_narrower_than_they_are() -> None:
    points = torch.linspace(-3, 3, 61, dtype=torch.float64)[None, :, None] * torch.tensor([1.0, 0.0]).double()
    shares = torch.softmax(-0.5 * points[..., 0].square(), 1)
    spreads = torch.tensor([0.0, 0.0, 0.25], dtype=torch.float64).expand(1, 61, 3)
    found = native_fitting.fit(points, shares, spreads, NOT_WIDE, 3, 50, GAIN, lines=True)
    assert found.covariances[0, :, 1, 1].tolist() == pytest.approx([0.25] * 3)


def test_a_fit_from_a_mixture_keeps_its_components_and_improves_them() -> None:
    points, shares, spreads = lattice(APART, 6.0, 0.2)
    moved = GaussianMixture(APART.log_weights, APART.means + 0.7, 1.5 * APART.covariances)
    found = native_fitting.fit(points, shares, spreads, NOT_WIDE, moved, 100, 1e-6)
    assert found.components == APART.components
    torch.testing.assert_close(found.means, APART.means, rtol=0, atol=0.05)
    assert not torch.equal(moved.means, found.means)


def test_a_fit_to_lines_leaves_those_of_a_wide_gaussian_to_it() -> None:
    """One of them lies where a narrow Gaussian is denser, which has no such lines."""
    both = mixture_of([0.5, 0.5], [[0.0, 0.0], [0.0, 0.0]], [0.05, 1.0])
    axis, around = torch.tensor([-1.5, 0.0, 1.5], dtype=torch.float64), torch.tensor([[0.25, 0.5, 0.25]])
    places = torch.cartesian_prod(axis, axis) * math.sqrt(0.75 / 1.125)  # with three quarters of the variance
    points = torch.cat([places, torch.zeros(1, 2)])[None]
    shares = torch.cat([0.5 * (around.T @ around).flatten(), torch.tensor([0.5])])[None].double()
    quarter = torch.tensor([0.25, 0.0, 0.25], dtype=torch.float64).expand(9, 3)
    spreads = torch.cat([quarter, torch.tensor([[0.0025, 0.0, 0.0025]])])[None].double()
    found = native_fitting.fit(points, shares, spreads, NOT_WIDE, both, 40, 0.0, lines=True)
    torch.testing.assert_close(found.log_weights.exp(), both.log_weights.exp(), rtol=0, atol=0.01)
    torch.testing.assert_close(found.covariances, both.covariances, rtol=0, atol=0.01)
