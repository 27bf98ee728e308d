"""Coordinates that no sensor touches, held against samples of the prior weighed by hand."""

from __future__ import annotations

import numpy as np
import torch

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from tests.inference.problems import updater


def test_which_of_two_velocities_it_is_follows_from_the_place() -> None:
    # two sources in one place with opposite velocities: a bearing tells them apart only by where it points
    weights = torch.tensor([[0.6, 0.4]], dtype=torch.float64)
    means = torch.tensor([[[0.0, 0.0, 5.0, 0.0], [0.4, 0.3, -5.0, 0.0]]], dtype=torch.float64)
    covariances = torch.diag(torch.tensor([1.0, 1.0, 0.2, 0.2], dtype=torch.float64)).expand(1, 2, 4, 4)
    prior = GaussianMixture.from_weights(weights, means, covariances)
    place, value, deviation = np.array([1.5, -1.0]), 1.2, 0.1
    reading = Reading(sensors.range_to([0, 1], 4, list(place), deviation), np.array([value]))
    posterior = updater().update(prior, encode([[reading]], 4)).posterior

    points = prior.sample(400_000, torch.Generator().manual_seed(1))[0].numpy()
    distance = np.linalg.norm(points[:, :2] - place, axis=1)
    share = np.exp(-0.5 * ((value - distance) / deviation) ** 2)
    share /= share.sum()
    forward = share[points[:, 2] > 0].sum()
    components = posterior.log_weights[0].exp().numpy()
    answered = components[posterior.means[0, :, 2].numpy() > 0].sum()
    assert abs(answered - forward) < 0.02
    mean = (share[:, None] * points).sum(0)
    np.testing.assert_allclose(posterior.moments()[0][0].numpy(), mean, atol=0.1)


def test_the_velocity_keeps_its_variance_where_the_place_is_known_to_a_millionth() -> None:
    covariance = torch.eye(4, dtype=torch.float64)
    covariance[0, 2] = covariance[2, 0] = 0.5
    prior = GaussianMixture.gaussian(torch.zeros(1, 4, dtype=torch.float64), covariance[None])
    readings = [
        Reading(sensors.range_to([0, 1], 4, place, 1e-6), np.array([np.linalg.norm(place)]))
        for place in ([3.0, 0.0], [0.0, 4.0], [-2.0, -2.0])
    ]
    found = updater().update(prior, encode([readings], 4)).posterior
    assert bool((torch.linalg.eigvalsh(found.covariances) > 0).all())
    left = found.moments()[1][0]
    np.testing.assert_allclose(left.diagonal()[2:].numpy(), [0.75, 1.0], rtol=0.02)
