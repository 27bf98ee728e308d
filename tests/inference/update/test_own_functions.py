"""A function of the user is updated as the same function built in, though PyTorch evaluates it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.weights import load
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.closed import linearised, nearly_linear, polynomials
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Method, Updater
from tests.inference.plain_models import random_mixture
from tests.inference.update.methods import unasked

PLACE, POWER, EXPONENT = [30.0, -20.0], -40.0, 2.0


def strength(state: Tensor, power: Tensor, exponent: Tensor) -> Tensor:
    """The log-distance law, as if the user had written it."""
    return power - 5 * exponent * (state.square().sum() + 1e-24).log() / math.log(10)


OWN = sensors.function(
    strength,
    [0, 1],
    3,
    2.0,
    {"power": POWER, "exponent": EXPONENT},
    0.1,
    100.0,
    origin=PLACE,
)
BUILT_IN = sensors.signal_strength([0, 1], 3, PLACE, 2.0, POWER, EXPONENT, outlier_probability=0.1)


def prior() -> GaussianMixture:
    mixture = random_mixture(1, 4, 3, 3)
    return GaussianMixture(mixture.log_weights, mixture.means, 0.3 * mixture.covariances)


def reports(own: bool) -> Observations:
    """One report each, two of the last entity, beside a range."""
    sensor, other = OWN if own else BUILT_IN, sensors.range_to([0, 1], 3, [-40.0, 0.0], 0.5)
    values = [[-71.0], [-70.0], [-73.0], [-71.5, -70.5]]
    rows = [[Reading(sensor, np.array([value])) for value in row] for row in values]
    rows[1].append(Reading(other, np.array([40.3])))
    return encode(rows, 3)


def assert_same(found: GaussianMixture, expected: GaussianMixture, tolerance: float = 1e-9) -> None:
    for one, other in zip(found.moments(), expected.moments(), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_it_is_posed_and_linearised_alike() -> None:
    found, expected = pose(prior(), reports(True), 1.0), pose(prior(), reports(False), 1.0)
    assert 0 < float(expected.divergence.min()) < math.inf
    torch.testing.assert_close(found.divergence, expected.divergence, rtol=1e-9, atol=1e-12)
    for one, other in zip(found.scaled.prediction, expected.scaled.prediction, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    posteriors = [
        nearly_linear.update(each.scaled.prior, each.scaled.observations, 16, 0.0)
        for each in (found, expected)
    ]
    assert_same(posteriors[0][0], posteriors[1][0])
    torch.testing.assert_close(posteriors[0][1], posteriors[1][1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", [1.0, 20.0])
def test_it_is_updated_alike(spread: float) -> None:
    """By a linearised update with a polynomial, and where the prior is wide by the network and its check."""
    given = prior()
    given = GaussianMixture(given.log_weights, spread * given.means, spread**2 * given.covariances)
    found, expected = (
        Updater(load(), dtype=torch.float64).update(given, reports(own)) for own in (True, False)
    )
    assert found.method.tolist() == expected.method.tolist()
    assert (Method.LINEARISED in found.method.tolist()) == (spread == 1.0)
    tolerance = 1e-3 if spread == 1.0 else 1e-4  # of deviations around one
    assert_same(found.posterior, expected.posterior, tolerance)
    torch.testing.assert_close(found.log_evidence, expected.log_evidence, rtol=1e-4, atol=1e-4)


def test_one_expansion_serves_all_reports_of_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first entity's polynomials stand for its functions, the second one's do not: its prior is too wide."""
    calls = []

    def counted(state: Tensor) -> Tensor:
        calls.append(1)
        return (state.square().sum() + 1e-24).sqrt()

    places = [[9.0, 1.0], [-8.0, 2.0], [1.0, 9.0], [0.0, -7.0], [6.0, 6.0], [-6.0, -6.0]]
    made = [sensors.function(counted, [0, 1], 2, 0.4, origin=place) for place in places]
    values = [float(np.hypot(place[0] - 0.2, place[1] + 0.1)) for place in places]
    readings = [Reading(sensor, np.array([value])) for sensor, value in zip(made, values, strict=True)]
    observations = encode([readings, readings], 2)
    spread = torch.tensor([0.05, 2.5]).double()[:, None, None] ** 2
    narrow_and_wide = GaussianMixture.gaussian(torch.zeros(2, 2).double(), spread * torch.eye(2).double())

    def updated() -> Answer:
        calls.clear()
        problems = Problems.of(narrow_and_wide, observations, UpdateSettings(linear_below=1.0), unasked)
        return linearised.answer(problems, torch.tensor([0, 1]))

    found, with_polynomials = updated(), len(calls)
    monkeypatch.setattr(polynomials, "LARGEST_ERROR", -1.0)
    expected = updated()
    assert_same(found.posterior, expected.posterior, 1e-4)
    assert_same(found.posterior.rows(slice(1, 2)), expected.posterior.rows(slice(1, 2)), 1e-12)
    monkeypatch.setattr(polynomials, "LARGEST_ERROR", math.inf)
    calls.clear()
    other = updated()
    assert len(calls) < with_polynomials
    assert not torch.allclose(other.posterior.means[1], expected.posterior.means[1], rtol=1e-9)
