"""Peaks where several observations are outliers, held against a grid that shares no code with the library."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.check import mode_search
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.answers import answers
from research.evaluation.adversarial.families import problems
from research.evaluation.adversarial.oracle import solve

ANCHORS = ([-4.0, -3.0], [4.0, -3.0], [4.0, 3.0], [-4.0, 3.0])
FIRST, SECOND = np.array([-1.0, 0.5]), np.array([1.5, -1.0])
OUTLIER = 0.05


def readings(outlier: float = OUTLIER) -> list[Reading]:
    """Ranges from four corners: two of one place, two of another."""
    made = []
    for anchor, place in zip(ANCHORS, (FIRST, FIRST, SECOND, SECOND), strict=True):
        sensor = sensors.range_to([0, 1], 2, anchor, 0.01, outlier, 60.0)
        made.append(Reading(sensor, np.array([np.linalg.norm(place - np.array(anchor))])))
    return made


def standard() -> GaussianMixture:
    return GaussianMixture.gaussian(torch.zeros(1, 2).double(), torch.eye(2).double()[None])


@pytest.mark.parametrize(("seed", "number"), [(408, 61), (412, 51)])
def test_a_peak_with_two_outliers_of_four_or_five_is_answered(seed: int, number: int) -> None:
    """Without these peaks the answers are 3.3 and 1.2 nats off, with a sample efficiency of .9."""
    problem = problems("contradictions, 5 % outliers", number + 1, seed)[number]
    answer = answers([problem], Updater(weights.load()))[0]
    exact = solve(problem.prior, problem.readings, np.random.default_rng(5))
    assert exact.divergence(answer.mixture).value < 0.1


def crossings() -> list[np.ndarray]:
    """Where two of the circles cross, by geometry, within three deviations of the prior."""
    found = []
    for (one, first), (other, second) in itertools.combinations(
        [(np.array(a), float(r.value[0])) for a, r in zip(ANCHORS, readings(), strict=True)], 2
    ):
        apart = np.linalg.norm(other - one)
        along = (apart**2 + first**2 - second**2) / (2 * apart)
        if abs(along) > first:
            continue
        way = (other - one) / apart
        height = math.sqrt(first**2 - along**2)
        across = height * np.array([-way[1], way[0]])
        found += [one + along * way + across, one + along * way - across]
    return [place for place in found if np.linalg.norm(place) < 3]


def test_every_crossing_of_two_circles_is_a_peak() -> None:
    prior, seen = standard(), encode([readings()], 2)
    peaks = mode_search.search(prior, seen, prior, 16)
    found = mode_search.with_agreeing(prior, seen, peaks)
    assert found.components == peaks.components
    expected = crossings()
    assert len(expected) == 4
    for place in expected:
        assert float((found.means[0] - torch.as_tensor(place)).norm(dim=1).amin()) < 0.05, place


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(readings(outlier=0.0), id="no outliers"),
        pytest.param(readings()[:2], id="too few"),
        pytest.param(
            [
                Reading(each.sensor, np.array([np.linalg.norm(FIRST - np.array(anchor))]))
                for each, anchor in zip(readings(), ANCHORS, strict=True)
            ],
            id="they agree",
        ),
    ],
)
def test_observations_that_cannot_contradict_each_other_cost_no_search(
    given: list[Reading], monkeypatch: pytest.MonkeyPatch
) -> None:
    prior, seen = standard(), encode([given], 2)
    peaks = mode_search.search(prior, seen, prior, 16)
    monkeypatch.setattr(mode_search, "_agreeing", None)  # would fail if it were called
    assert mode_search.with_agreeing(prior, seen, peaks) is peaks


def test_the_rest_of_a_batch_changes_no_peak() -> None:
    prior, alone = standard(), encode([readings()], 2)
    both = encode([readings(), readings()[:2]], 2)
    two = GaussianMixture(
        *(torch.cat([part, part]) for part in (prior.log_weights, prior.means, prior.covariances))
    )
    one = mode_search.with_agreeing(prior, alone, mode_search.search(prior, alone, prior, 16))
    found = mode_search.with_agreeing(two, both, mode_search.search(two, both, two, 16))
    torch.testing.assert_close(found.means[0], one.means[0], rtol=1e-9, atol=1e-9)
