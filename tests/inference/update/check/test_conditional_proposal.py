"""Radars under a wide prior: distance, radial speed and bearing, of which each may be an outlier."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, bearing, encode, function, range_rate, range_to
from beliefstream.inference.update.check.conditional_proposal import ConditionalProposal, seen_first
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater

Array = NDArray[np.float64]

PLACE, SPEED = 100.0, 10.0  # deviations of the prior, m and m/s
RANGE, RATE, BEARING = 1.0, 0.1, 0.02  # of the noise
FARTHEST, FASTEST, OUTLIER = 600.0, 60.0, 0.05
RADAR = np.array([-80.0, 50.0])


def reported(distance: float, rate: float, direction: float, outlier: float = OUTLIER) -> Observations:
    sensors = (
        range_to((0, 1), 4, RADAR, RANGE, outlier, FARTHEST),
        range_rate((0, 1), (2, 3), 4, RADAR, RATE, outlier, FASTEST),
        bearing((0, 1), 4, RADAR, BEARING, outlier),
    )
    values = zip(sensors, (distance, rate, direction), strict=True)
    return encode([[Reading(sensor, np.array([value])) for sensor, value in values]], 4)


def wide() -> GaussianMixture:
    deviations = torch.tensor([PLACE, PLACE, SPEED, SPEED], dtype=torch.float64)
    return GaussianMixture.gaussian(
        torch.zeros(1, 4, dtype=torch.float64), torch.diag(deviations.square())[None]
    )


def normal(offset: Array, deviation: float) -> Array:
    return np.exp(-0.5 * (offset / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))


def exact(values: tuple[float, float, float], count: int) -> tuple[float, Array, Array]:
    """Log evidence, `count` points of the posterior and their log densities: places on a polar grid, then velocities.

    Velocities are independent of the place before, so a radial speed is normal with the prior's deviation and noise.
    """
    distance, rate, direction = values
    radii = np.unique(np.r_[np.linspace(0.5, 700, 701), np.linspace(distance - 8, distance + 8, 161)])
    turns = np.unique(np.r_[np.linspace(-math.pi, math.pi, 801), direction + np.linspace(-0.2, 0.2, 161)])
    turns = turns[:-1]
    r, turn = np.meshgrid(radii, turns, indexing="ij")
    area = r * np.gradient(radii)[:, None] * np.gradient(turns)
    unit = np.stack([np.cos(turn), np.sin(turn)], -1)
    places = RADAR + r[..., None] * unit
    off = (turn - direction + math.pi) % (2 * math.pi) - math.pi
    inlier = 1 - OUTLIER
    density = normal(places[..., 0], PLACE) * normal(places[..., 1], PLACE)
    density *= inlier * normal(r - distance, RANGE) + OUTLIER / FARTHEST
    density *= inlier * normal(off, BEARING) + OUTLIER / (2 * math.pi)
    total = float((density * area).sum())
    seen, lost = inlier * float(normal(np.array(rate), math.hypot(SPEED, RATE))), OUTLIER / (2 * FASTEST)
    generator = np.random.default_rng(5)
    cells = generator.choice(r.size, count, p=(density * area).ravel() / total)
    at, along = places.reshape(-1, 2)[cells], unit.reshape(-1, 2)[cells]
    gain = SPEED**2 / (SPEED**2 + RATE**2)
    velocity = SPEED * generator.standard_normal((count, 2))
    error = rate - (velocity * along).sum(1) - RATE * generator.standard_normal(count)
    counts = generator.random(count) < seen / (seen + lost)
    velocity += np.where(counts, gain * error, 0.0)[:, None] * along
    log = np.log(density.ravel()[cells] / total) + np.log(normal(velocity, SPEED)).sum(1)
    likelihood = inlier * normal(rate - (velocity * along).sum(1), RATE) + OUTLIER / (2 * FASTEST)
    log += np.log(likelihood / (seen + lost))
    return math.log(total * (seen + lost)), np.concatenate([at, velocity], 1), log


def test_a_radar_under_a_wide_prior_has_the_exact_evidence_and_says_how_far_its_answer_is() -> None:
    for values in ((120.0, -6.0, 0.4), (60.0, 3.0, -2.5), (210.0, 11.0, -0.3)):
        update = updater().update(wide(), reported(*values))
        evidence, points, log = exact(values, 20_000)
        assert abs(float(update.log_evidence[0]) - evidence) < 0.05
        lost = (log - update.posterior.log_density(torch.from_numpy(points)[None])[0].numpy()).mean()
        # a mixture of sixteen Gaussians cannot follow ring, beam and velocities; it must say so
        assert lost < 0.8
        assert float(update.divergence[0]) > 0.7 * lost


def test_points_have_the_density_that_is_stated() -> None:
    prior = random_mixture(3, 1, 3, 2)
    product = function(lambda state: state[0] * state[1], (0, 1), 2, 0.3)
    observations = encode([[Reading(product, np.array([1.0]))]], 2)
    proposal = ConditionalProposal.of(prior, [0], prior, observations)
    line = torch.linspace(-9, 9, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)[None]
    share = proposal.log_density(grid).exp() * (line[1] - line[0]).square()
    assert abs(float(share.sum()) - 1) < 1e-3
    points = proposal.draw(1 << 14, seed=4)
    for power in (1, 2):
        exact = (share[..., None] * grid**power).sum(1)
        assert torch.allclose((points**power).mean(1), exact, atol=0.03, rtol=0.02)
    assert torch.allclose(points.prod(2).mean(1), (share * grid.prod(2)).sum(1), atol=0.03)


def test_distance_and_bearing_of_a_radar_come_first() -> None:
    axes, first = seen_first(reported(120.0, -6.0, 0.4))
    assert axes.tolist() == [[True, True, False, False]]
    assert first.tolist() == [[True, False, True]]


def test_none_comes_first_where_all_touch_the_same_coordinates_or_none_may_be_an_outlier() -> None:
    assert not bool(seen_first(reported(120.0, -6.0, 0.4, outlier=0.0))[1].any())
    same = range_to((0, 1), 2, RADAR, 0.5, 0.1, FARTHEST), bearing((0, 1), 2, RADAR, 0.5, 0.1)
    rates = [range_rate((0, 1), (2, 3), 4, [4.0, y], 0.5, 0.1, FASTEST) for y in (1.0, 2.0)]
    for sensors, size in ((same, 2), (rates, 4)):
        axes, first = seen_first(encode([[Reading(sensor, np.array([1.0])) for sensor in sensors]], size))
        assert not bool(axes.any() | first.any())
