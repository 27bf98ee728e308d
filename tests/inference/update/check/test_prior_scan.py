"""The scan of a prior: it sees each mode, however thin, and what an answer leaves out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import multivariate_normal
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.likelihood import native_observations
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.check.prior_scan import over_cells, scan
from tests.inference.likelihood import operators
from tests.inference.likelihood.test_native_observations import problem
from tests.inference.plain_models import random_mixture

LEFT, RIGHT = (-1.0, 0.0), (1.0, 0.0)


def standard(means: list[list[float]] | None = None, deviation: float = 1.0) -> GaussianMixture:
    centres = torch.tensor(means or [[0.0, 0.0]], dtype=torch.float64)[None]
    count, size = centres.shape[1:]
    weights = torch.full((1, count), 1 / count, dtype=torch.float64)
    covariances = deviation**2 * torch.eye(size, dtype=torch.float64).expand(1, count, -1, -1)
    return GaussianMixture.from_weights(weights, centres, covariances)


def ranges(place: tuple[float, float], deviation: float, outliers: float = 0.0) -> Observations:
    """From two anchors on a line: a place and its mirror image fit both."""
    row = []
    for anchor in (LEFT, RIGHT):
        sensor = sensors.range_to([0, 1], 2, list(anchor), deviation, outliers, 20.0)
        row.append(Reading(sensor, np.array([math.dist(place, anchor)])))
    return encode([row], 2)


@pytest.mark.parametrize("deviation", [0.1, 1e-3, 1e-6])
def test_both_of_two_mirror_images_hold_half_of_the_places(deviation: float) -> None:
    found = scan(standard(), ranges((0.3, 0.8), deviation))
    above = float((found.share * (found.points[..., 1] > 0)).sum())
    assert 0.3 < above < 0.7
    starts = found.starts()
    assert 0.2 < float((starts[..., 1] > 0).double().mean()) < 0.8


@pytest.mark.parametrize("deviation", [0.1, 1e-2, 1e-4])
def test_an_answer_that_lacks_an_image_is_seen_and_one_that_has_both_is_not(deviation: float) -> None:
    observations = ranges((0.3, 0.8), deviation)
    found = scan(standard(), observations)
    spread = 2 * deviation
    both = standard([[0.3, 0.8], [0.3, -0.8]], spread)
    one = standard([[0.3, 0.8]], spread)
    unknown = torch.tensor([-math.inf], dtype=torch.float64)
    assert float(found.missed(both, unknown).sum()) < 0.02
    assert float(found.missed(one, unknown).sum()) > 1.0


def test_a_thin_ring_keeps_its_share() -> None:
    """Ranges that contradict: the place lies on one ring or the other, a millionth thick."""
    prior, row = standard([[0.0, 0.0]], 2.0), []
    for anchor, value in ((LEFT, 0.5), (RIGHT, 0.7)):  # the rings do not meet
        row.append(Reading(sensors.range_to([0, 1], 2, list(anchor), 1e-6, 0.1, 20.0), np.array([value])))
    found = scan(prior, encode([row], 2))
    about_left = float((found.share * (found.points[..., 0] < 0)).sum())

    def along(anchor: tuple[float, float], radius: float) -> float:
        """The prior over the ring, a sum over angles."""
        angle = np.linspace(0, 2 * np.pi, 4001)[:-1]
        x, y = anchor[0] + radius * np.cos(angle), anchor[1] + radius * np.sin(angle)
        return float(radius * np.exp(-(x**2 + y**2) / 8).mean())

    exact = along(LEFT, 0.5) / (along(LEFT, 0.5) + along(RIGHT, 0.7))
    assert about_left == pytest.approx(exact, abs=0.15)


def identity(u: torch.Tensor) -> torch.Tensor:
    return u[0]


@pytest.mark.parametrize("distance", [3.4, 4.0])
def test_what_functions_say_about_the_tails_of_the_prior_is_seen(distance: float) -> None:
    """A place far out, reported to .03 of the prior by functions; points of the prior alone are 8 to 400 nats off."""
    seen, variance = 0, 1 + 0.03**2
    for angle in 2 * np.pi * np.arange(16) / 16:
        place = distance * np.array([math.cos(angle), math.sin(angle)])
        row = [
            Reading(sensors.function(identity, [axis], 2, 0.03), place[axis : axis + 1]) for axis in (0, 1)
        ]
        exact = -0.5 * distance**2 / variance - math.log(2 * math.pi * variance)
        found = scan(standard(), encode([row], 2))
        seen += abs(float(found.log_evidence[0]) - exact) < 1.0
    assert seen >= 11


def test_a_scan_that_does_not_see_the_posterior_says_nothing() -> None:
    """Twenty deviations off there is no point of the scan: what it has is no part of the posterior."""
    observations = ranges((0.3, 20.0), 0.01)
    found = scan(standard(), observations)
    answer, exact = standard([[0.3, 20.0]], 0.02), torch.tensor([-210.0], dtype=torch.float64)
    assert float(found.missed(answer, exact).sum()) < 1e-6


def test_cells_far_from_what_is_observed_are_resolved_later_than_those_near_it() -> None:
    """A likelihood a hundred deviations off varies by e over a hundredth of the noise."""
    observations = encode([[Reading(sensors.position([0], 1, [[0.01**2]]), np.zeros(1))]], 1)
    assert observations.native is not None
    points, cell = torch.tensor([[[0.0], [1.0]]]).double(), torch.full((1, 2, 1, 1), 0.003).double()
    change = native_observations.smoothed(observations.native, points, cell)[1][0]
    assert float(change[0]) < 1.0 < float(change[1])


def test_moments_are_those_of_the_posterior() -> None:
    found = scan(standard(), ranges((0.3, 0.8), 0.05))
    mean = (found.share[..., None] * found.points).sum(1)
    across = (found.share * (found.points - mean[:, None])[..., 1].square()).sum(1)
    assert float(mean[0, 0]) == pytest.approx(0.3, abs=0.1)
    assert float(across[0]) == pytest.approx(0.8**2, abs=0.2)


def test_an_answer_without_an_evidence_keeps_its_quality_a_number() -> None:
    found, unknown = scan(standard(), ranges((0.3, 0.8), 0.1)), torch.tensor([math.nan], dtype=torch.float64)
    assert float(found.missed(standard(), unknown).sum()) == 0.0


def test_a_scan_that_is_not_a_number_vouches_for_no_answer() -> None:
    prior = standard()
    found = scan(prior, ranges((0.3, 0.8), 0.1))
    broken = found._replace(log_evidence=torch.full_like(found.log_evidence, math.nan))
    assert float(broken.missed(prior, found.log_evidence).sum()) == math.inf


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 5),
    probability=st.sampled_from([0.0, 1e-9, 0.1]),
    width=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_a_likelihood_is_smoothed_by_its_variance_over_a_cell(
    seed: int, size: int, probability: float, width: float
) -> None:
    seen, points, factors = problem(seed, size, probability)
    points[0, 0, 0] = math.nan
    assert seen.native is not None
    found = native_observations.smoothed(seen.native, points, width * factors)
    linear = operators.by_operators(seen, points, width * factors)
    varied = (
        linear.information.diagonal(dim1=-2, dim2=-1).sum(-1) + linear.curvature.square().sum((-2, -1)) / 2
    )
    residuals, used = linear.residuals, seen.mask[:, None]
    inlier = residuals.log_likelihood + torch.nn.functional.logsigmoid(residuals.log_odds)
    outlier = residuals.log_likelihood + torch.nn.functional.logsigmoid(-residuals.log_odds)
    wider = inlier + 0.5 * residuals.squared * (varied / (1 + varied)) - 0.5 * varied.log1p()
    each = torch.nan_to_num(torch.logaddexp(wider, outlier), nan=-math.inf)
    change = torch.maximum(varied, each - residuals.log_likelihood)
    expected = torch.where(used, each, 0.0).sum(-1), torch.where(used, change, 0.0).amax(-1)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11, equal_nan=True)


def smoothed_plainly(answer: GaussianMixture, points: Tensor, factors: Tensor) -> Tensor:
    """Log density of the answer's components, each as wide as the cell more, by SciPy."""
    logs = np.full(points.shape[:2], -np.inf)
    for b, m in np.ndindex(*points.shape[:2]):
        cell = (factors[b, m] @ factors[b, m].T).numpy()
        for k in range(answer.components):
            density = multivariate_normal(answer.means[b, k].numpy(), answer.covariances[b, k].numpy() + cell)
            log = float(answer.log_weights[b, k]) + density.logpdf(points[b, m].numpy())
            logs[b, m] = np.logaddexp(logs[b, m], log)
    return torch.from_numpy(logs)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 9), st.sampled_from([1e-3, 0.1, 3.0]))
def test_densities_over_cells_are_those_of_scipy(seed: int, size: int, count: int, width: float) -> None:
    answer = random_mixture(seed, 2, count, size)
    points = 2 * torch.randn(2, 5, size, generator=torch.Generator().manual_seed(seed)).double()
    factors = width * random_mixture(seed + 1, 2, 5, size).factors()
    found = over_cells(answer, points, factors)
    expected = smoothed_plainly(answer, points, factors)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
