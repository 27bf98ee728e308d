"""Updates by hypotheses, against an oracle that shares no code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood.noise import Noise
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import bearing, position, range_to
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update.plane import hypotheses
from beliefstream.inference.update.plane.hypotheses import MOST
from beliefstream.inference.update.settings import UpdateSettings
from research.evaluation.adversarial.answers import stacked
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import solve
from tests.inference.problems import updater
from tests.inference.update.methods import taken

PRIOR = Mixture(
    np.array([0.7, 0.3]), np.array([[0.0, 0.0], [1.0, -1.0]]), np.array([np.eye(2), 0.5 * np.eye(2)])
)
TWO_PARTS = Noise(weights=(0.7, 0.3), biases=(0.0, 0.8), ratios=(1.0, 2.0))


def seen(sensor: Sensor, *value: float) -> Reading:
    return Reading(sensor, np.array(value))


PROBLEMS = {
    "two thin rings, of which one may be an outlier": (
        seen(range_to([0, 1], 2, [0.9, -2.5], 1e-3, 0.05, 60.0), 3.1),
        seen(range_to([0, 1], 2, [-3.0, 0.3], 1e-3, 0.05, 60.0), 2.2),
    ),
    "a thin beam and a thin ring that do not meet": (
        seen(bearing([0, 1], 2, [-0.7, -0.8], 0.02, 0.05), 0.3),
        seen(range_to([0, 1], 2, [0.9, -2.5], 0.02, 0.05, 60.0), 0.9),
    ),
    "a ring or a wider one": (seen(range_to([0, 1], 2, [0.9, 0.4], 0.02, noise=TWO_PARTS), 1.9),),
    "a ring and a position that may be an outlier": (
        seen(range_to([0, 1], 2, [0.9, -2.5], 1e-3), 3.1),
        seen(position([0, 1], 2, 1e-6 * np.eye(2), 0.2), 0.2, 1.4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_sum_over_hypotheses_is_the_exact_posterior(name: str) -> None:
    """The answer is near it, its evidence is right, and it does not claim to be nearer than it is."""
    exact, prior = solve(PRIOR, PROBLEMS[name], np.random.default_rng(5)), stacked([PRIOR])
    given = prior, encode([PROBLEMS[name]], 2), UpdateSettings()
    index, update = taken(hypotheses, *given, updater().update)
    assert index.tolist() == [0]
    found = update.posterior
    parts = found.log_weights.exp(), found.means, found.covariances
    divergence = exact.divergence(Mixture(*(part[0].numpy() for part in parts))).value
    assert divergence < 0.6  # two wide rings are a lot for sixteen components
    assert float(update.log_evidence[0]) == pytest.approx(exact.log_evidence, abs=0.03)
    assert float(update.lost[0]) > divergence - 0.05


@pytest.mark.parametrize("count", [0, 5])
def test_entities_without_hypotheses_or_with_too_many_are_left_to_others(count: int) -> None:
    doubted = [seen(range_to([0, 1], 2, [n, -2.5], 1e-3, 0.05, 60.0), 3.1) for n in range(count)]
    certain = seen(range_to([0, 1], 2, [0.9, 0.4], 0.02), 1.9)
    prior = GaussianMixture.gaussian(torch.zeros(1, 2).double(), torch.eye(2).double()[None])
    observations = encode([[certain, *doubted]], 2)
    assert MOST < 2**5
    assert len(taken(hypotheses, prior, observations, UpdateSettings())[0]) == 0
