"""Wide priors and sharp sensors: where the network and Gauss-Newton images alone lose the place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update import network
from beliefstream.inference.update.amortised import bend
from beliefstream.inference.update.check.climb import Climb
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.updater import Method, Updater
from research.evaluation.exact.grid import grid_posterior
from tests.inference.likelihood.test_native_observations import problem
from tests.inference.problems import updater

KILOMETRE = 1000.0


def wide(means: np.ndarray) -> GaussianMixture:
    """One Gaussian of a kilometre each."""
    count, size = means.shape
    covariance = KILOMETRE**2 * torch.eye(size, dtype=torch.float64)
    return GaussianMixture.gaussian(torch.as_tensor(means), covariance.expand(count, -1, -1))


def anchors(
    number: int, area: float, deviation: float, offset: float, dimension: int = 2, outliers: float = 0.1
) -> tuple[GaussianMixture, Observations, torch.Tensor]:
    """A hundred entities among anchors, a tenth of whose ranges are anything, and priors that lie elsewhere."""
    random = np.random.default_rng(7)
    places, readings = random.uniform(-area, area, (100, dimension)), []
    for place in places:
        row = []
        for anchor in random.uniform(-area, area, (number, dimension)):
            span = 10 * area
            sensor = sensors.range_to(
                list(range(dimension)), dimension, list(anchor), deviation, outliers, span
            )
            distance = np.linalg.norm(place - anchor) + deviation * random.normal()
            wrong = random.random() < outliers
            row.append(Reading(sensor, np.array([random.uniform(0, span) if wrong else distance])))
        readings.append(row)
    prior = wide(offset * random.normal(size=(100, dimension)))
    return prior, encode(readings, dimension), torch.as_tensor(places)


def lost(posterior: GaussianMixture, places: torch.Tensor) -> float:
    """Share of entities at whose place there is next to no density: that of the prior is e⁻¹⁵ there."""
    return float((posterior.log_density(places[:, None])[:, 0] < -15).double().mean())


@pytest.mark.parametrize(("area", "deviation", "offset"), [(5, 0.1, 1000), (50, 0.5, 1000), (50, 0.5, 3000)])
def test_a_dozen_sharp_ranges_find_the_place_from_a_kilometre_off(
    area: float, deviation: float, offset: float
) -> None:
    prior, observations, places = anchors(12, area, deviation, offset)
    result = updater().update(prior, observations)
    assert lost(result.posterior, places) == 0
    assert float(result.sample_efficiency.median()) > 0.9


def test_four_ranges_in_space_of_which_some_are_outliers() -> None:
    prior, observations, places = anchors(4, 50, 0.5, 1000, dimension=3)
    assert (
        lost(updater().update(prior, observations).posterior, places) <= 0.12
    )  # two outliers of four, once in twenty, leave no way to tell


@pytest.mark.parametrize(("quadrature", "method"), [(0.005, Method.QUADRATURE), (0.0, Method.REFINED)])
def test_without_outliers_both_mirror_images_are_found(quadrature: float, method: Method) -> None:
    readings = [
        Reading(sensors.range_to([0, 1], 2, [x, 0.0], 0.5, 0.0, 100.0), np.array([math.hypot(30 - x, 40.0)]))
        for x in (-20.0, 0.0, 20.0)
    ]
    prior = wide(np.array([[2000.0, 300.0]]))
    chosen = replace(updater().settings, quadrature_below=quadrature)
    result = Updater(updater().network, settings=chosen).update(prior, encode([readings], 2))
    heavy = result.posterior.means[0][result.posterior.log_weights[0] > math.log(0.1)]
    assert {round(float(y) / 5) * 5 for y in heavy[:, 1]} == {-40, 40}
    np.testing.assert_allclose(heavy[:, 0], 30.0, atol=2.0)
    # the likelihood is symmetric: only the prior tells the two apart; .06 of the weight is .007 nats
    above = result.posterior.log_weights[0][result.posterior.means[0][:, 1] > 0].logsumexp(0)
    expected = 1 / (1 + math.exp(-2 * 40 * 300 / KILOMETRE**2))
    assert float(above.exp()) == pytest.approx(expected, abs=0.06)
    assert int(result.method[0]) == method


def test_bearings_that_point_away_from_the_prior_are_followed() -> None:
    place = np.array([-400.0, 900.0])
    readings = []
    for station in ([-600.0, 500.0], [-100.0, 600.0]):
        angle = math.atan2(place[1] - station[1], place[0] - station[0])
        readings.append(Reading(sensors.bearing([0, 1], 2, station, 0.002, 0.01), np.array([angle])))
    result = updater().update(wide(np.array([[900.0, -800.0]])), encode([readings], 2))
    posterior = result.posterior.ordered()
    near = np.linalg.norm(posterior.means[0].numpy() - place, axis=1) < 5.0
    assert (
        float(posterior.log_weights[0].exp()[near].sum()) > 0.98
    )  # two outliers of a hundredth each are possible
    np.testing.assert_allclose(posterior.means[0, 0], place, atol=1.0)
    assert float(posterior.covariances[0, 0].diagonal().max()) < 2.0**2


def test_the_posterior_is_that_of_a_grid() -> None:
    # sharp enough to be searched, and not too sharp for a grid
    prior = wide(np.array([[700.0, 300.0]]))
    values = ([-100.0, 0.0], 270.0), ([150.0, 50.0], 230.0)
    readings = [
        Reading(sensors.range_to([0, 1], 2, place, 3.0, 0.0, 2000.0), np.array([value]))
        for place, value in values
    ]
    observations = encode([readings], 2)
    result = updater().update(prior, observations)
    exact = grid_posterior(prior, observations)
    assert exact.divergence(result.posterior) < 0.05
    assert float(result.log_evidence[0]) == pytest.approx(float(exact.log_evidence), abs=0.1)


def test_mild_sensors_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = GaussianMixture.gaussian(
        torch.tensor([[10.0, 5.0]], dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
    )
    sensor = sensors.range_to([0, 1], 2, [0.0, 0.0], 0.3, 0.1, 100.0)
    observations = encode([[Reading(sensor, np.array([11.5]))]], 2)
    problem = pose(prior, observations).scaled
    assert float(bend(problem)) < 1
    monkeypatch.setattr(network, "search", None)  # would fail if it were called
    assert float(updater().update(prior, observations).sample_efficiency) > 0.9


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 5),
    probability=st.sampled_from([0.0, 1e-9, 0.1]),
)
def test_a_walk_ends_at_a_peak_of_the_posterior(seed: int, size: int, probability: float) -> None:
    """No point near where a walk ends is higher, by the density itself."""
    seen, points, factors = problem(seed, size, probability)
    prior = GaussianMixture.gaussian(
        points.mean(1), (factors @ factors.mT).mean(1) + torch.eye(size, dtype=torch.float64)
    )
    climb = Climb.of(prior, seen, points)
    found = climb.walk(points, 60, robust=False)

    def height(at: torch.Tensor) -> torch.Tensor:
        return prior.log_density(at) + seen.log_likelihood(at)

    assert bool((height(found) >= height(points) - 1e-6).all())
    ends = height(found)
    near = 0.01 * torch.randn(32, *found.shape, generator=torch.Generator().manual_seed(seed)).double()
    gained = torch.stack([height(found + climb_frame(climb, offset)) - ends for offset in near]).amax(0)
    assert float((gained < 0.01).double().mean()) > 0.8  # a few walks are still on a ridge


def climb_frame(climb: Climb, offset: torch.Tensor) -> torch.Tensor:
    """An offset in the frame of the prior, in the coordinates."""
    return (climb.factors @ offset[..., None])[..., 0]
