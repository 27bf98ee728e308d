"""Updates in two steps: places first, then what takes other coordinates too."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, bearing, encode, range_rate, range_to
from beliefstream.inference.update.in_two_steps import has_hypotheses, narrowed, seen_first
from beliefstream.inference.update.result import Method
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater
from tests.inference.radar import BEARING, FARTHEST, FASTEST, RADAR, RANGE, RATE, exact, reported, wide

VALUES = ((120.0, -6.0, 0.4), (60.0, 3.0, -2.5), (210.0, 11.0, -0.3))


def test_without_outliers_the_answer_of_a_radar_is_nearly_exact_and_says_so() -> None:
    for values in VALUES:
        update = updater().update(wide(), reported(*values, outlier=0.0))
        evidence, points, log = exact(values, 20_000, outlier=0.0)
        lost = (log - update.posterior.log_density(torch.from_numpy(points)[None])[0].numpy()).mean()
        assert lost < 0.06
        assert int(update.method[0]) == Method.QUADRATURE
        assert abs(float(update.log_evidence[0]) - evidence) < 0.02
        assert 0.5 * lost < float(update.lost[0]) < 2 * lost + 0.01


def test_the_order_of_coordinates_and_of_observations_does_not_matter() -> None:
    distance, rate, direction = VALUES[0]
    sensors = (
        range_rate((3, 1), (2, 0), 4, RADAR, RATE),
        bearing((3, 1), 4, RADAR, BEARING),
        range_to((3, 1), 4, RADAR, RANGE),
    )
    readings = [
        Reading(sensor, np.array([value]))
        for sensor, value in zip(sensors, (rate, direction, distance), strict=True)
    ]
    order = [3, 1, 2, 0]
    one = updater().update(wide(), reported(distance, rate, direction, outlier=0.0))
    other = updater().update(wide().marginal(order), encode([readings], 4))
    first, second = one.posterior.moments(), other.posterior.marginal(order).moments()
    spread = first[1][0].diagonal().sqrt()
    assert ((first[0] - second[0])[0].abs() < 0.02 * spread).all()
    assert ((first[1] - second[1])[0].abs() < 0.03 * spread[:, None] * spread).all()


def test_splitting_keeps_the_moments_and_leaves_little_curvature() -> None:
    mixture = random_mixture(4, 3, 2, 4)
    rate = Reading(range_rate((0, 1), (2, 3), 4, [9.0, 7.0], 0.02), np.array([1.0]))
    rates = encode([[rate]] * 3, 4)
    parts = narrowed(mixture, rates, [0, 1])
    for before, after in zip(mixture.moments(), parts.moments(), strict=True):
        torch.testing.assert_close(after, before)

    def bent(some: GaussianMixture) -> float:
        curvature = (
            rates.linearise(some.means, some.factors()).curvature[:, :, 0].square().sum((-1, -2)).sqrt()
        )
        return float((some.log_weights.exp() * curvature).sum(1).max())

    assert parts.components > 4
    assert bent(parts) < 0.5 * bent(mixture)


def test_distance_and_bearing_of_a_radar_come_first() -> None:
    for outlier in (0.0, 0.05):
        observations = reported(*VALUES[0], outlier)
        axes, first = seen_first(observations)
        assert axes.tolist() == [[True, True, False, False]]
        assert first.tolist() == [[True, False, True]]
        assert has_hypotheses(observations, first).tolist() == [outlier > 0]


def test_none_comes_first_where_all_touch_the_same_coordinates_or_all_are_functions() -> None:
    same = range_to((0, 1), 2, RADAR, 0.5, 0.1, FARTHEST), bearing((0, 1), 2, RADAR, 0.5, 0.1)
    rates = [range_rate((0, 1), (2, 3), 4, [4.0, y], 0.5, 0.1, FASTEST) for y in (1.0, 2.0)]
    for sensors, size in ((same, 2), (rates, 4)):
        axes, first = seen_first(encode([[Reading(sensor, np.array([1.0])) for sensor in sensors]], size))
        assert not bool(axes.any() | first.any())


def test_a_place_without_a_bearing_leaves_a_poor_answer_that_says_so() -> None:
    observations = reported(*VALUES[0], outlier=0.0)
    ring = replace(observations, mask=torch.tensor([[True, True, False]]))
    update = updater().update(wide(), ring)
    assert float(update.sample_efficiency[0]) < 0.3
    assert math.isfinite(float(update.log_evidence[0]))
