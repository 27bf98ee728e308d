"""Quadrature around a sensor against dense sums over a grid, and against an oracle that shares no code with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import bearing, range_to
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update.plane import single_observation
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.settings import FAST, UpdateSettings
from research.evaluation.adversarial.answers import stacked
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import solve
from research.evaluation.adversarial.problems import gaussian
from tests.inference.plain_models import random_mixture
from tests.inference.plane_problems import (
    NOISE,
    OUTLIERS,
    SPAN,
    direction_likelihood,
    distance_likelihood,
    either,
    read,
    two_components,
)
from tests.inference.problems import updater
from tests.inference.update.methods import taken
from tests.inference.update.test_quadrature import Array, Exact, exact

SETTINGS = UpdateSettings()
ANY = replace(SETTINGS, quadrature_below=1e3)  # every answer, however poor
AXES = [2, 0]  # the coordinates of the plane
WIDE = gaussian([0.0, 0.0], [60.0, 60.0])
TURNS = np.linspace(0, 2, 16)
ACROSS, ALONG = (
    np.stack(pair, 1) for pair in ((np.cos(TURNS), np.sin(TURNS)), (-np.sin(TURNS), np.cos(TURNS)))
)
ARC = Mixture(  # what a range leaves
    np.full(16, 1 / 16),
    100 * ACROSS,
    36 * np.einsum("ki,kj->kij", ALONG, ALONG) + 0.25 * np.einsum("ki,kj->kij", ACROSS, ACROSS),
)


def answer(prior: GaussianMixture, observations: Observations, chosen: UpdateSettings = ANY) -> Answer | None:
    index, update = taken(single_observation, prior, observations, chosen)
    return update if len(index) else None


def assert_exact(found: Answer, grid: Exact, tolerance: float = 2e-4) -> None:
    assert found.method.tolist() == [Method.QUADRATURE]
    assert float(found.log_evidence[0]) == pytest.approx(grid.log_evidence, abs=tolerance)
    mean, covariance = (part[0].numpy() for part in found.posterior.moments())
    scale = math.sqrt(np.trace(grid.covariance))
    np.testing.assert_allclose(mean, grid.mean, atol=2 * tolerance * scale)
    np.testing.assert_allclose(covariance, grid.covariance, atol=5 * tolerance * scale**2)
    true = grid.divergence(found.posterior)
    assert float(found.lost[0]) == pytest.approx(true, rel=0.3, abs=1e-4)


@pytest.mark.parametrize("outliers", [0.0, OUTLIERS])
@pytest.mark.parametrize(
    ("spread", "away"), [(0.3, 40.0), (1.0, 20.0), (2.0, 30.0), (2.0, 60.0), (3.0, 120.0)]
)
def test_a_range_sharper_than_the_prior_gets_exact_moments(
    spread: float, away: float, outliers: float
) -> None:
    prior, value = two_components(spread), away + 0.8 * spread
    sensor = sensors.range_to([0, 1], 2, [-away, 0.0], NOISE, outliers, SPAN)
    grid = exact(prior, lambda points: distance_likelihood(points, away, value, outliers), 601)
    found = answer(prior, read(sensor, value))
    assert found is not None
    assert_exact(found, grid)


@pytest.mark.parametrize(("outliers", "value"), [(0.0, 0.1), (0.1, 0.1), (0.1, 0.35)])
def test_a_bearing_gets_exact_moments(outliers: float, value: float) -> None:
    noise, away = 0.03, 20.0
    prior = two_components(1.5)
    sensor = sensors.bearing([0, 1], 2, [-away, 0.0], noise, outlier_probability=outliers)

    def log_likelihood(points: Array) -> Array:
        off = (value - np.arctan2(points[:, 1], points[:, 0] + away)) / noise
        return either(off, noise, outliers, 2 * math.pi)

    found = answer(prior, read(sensor, value))
    assert found is not None
    assert_exact(found, exact(prior, log_likelihood, 601))


def test_a_bearing_from_the_other_side_is_an_outlier() -> None:
    prior = two_components(1.5)
    sensor = sensors.bearing([0, 1], 2, [-20.0, 0.0], 0.03, outlier_probability=0.1)
    found = answer(prior, read(sensor, 3.0))
    assert found is not None
    assert float(found.log_evidence[0]) == pytest.approx(math.log(0.1 / (2 * math.pi)), abs=1e-9)
    for part, before in zip(found.posterior.moments(), prior.moments(), strict=True):
        torch.testing.assert_close(part, before, rtol=1e-9, atol=1e-9)


def test_coordinates_that_the_sensor_does_not_touch_follow_by_regression() -> None:
    """The state has velocities too; given the position, they are Gaussian with a mean that is linear in it."""
    away, value, covariance = 30.0, 31.0, np.array([[2.0, 0.3, 1.1, 0.0], [0.3, 1.5, 0.0, 0.8]])
    whole = np.block([[covariance], [covariance[:, 2:].T, np.diag([0.9, 0.7])]])
    prior = GaussianMixture.gaussian(torch.zeros(1, 4).double(), torch.from_numpy(whole)[None])
    found = answer(prior, read(sensors.range_to([0, 1], 4, [-away, 0.0], NOISE), value, 4))

    grid = exact(prior.marginal([0, 1]), lambda points: distance_likelihood(points, away, value, 0.0), 801)
    gain = whole[2:, :2] @ np.linalg.inv(whole[:2, :2])
    assert found is not None
    mean, spread = (part[0].numpy() for part in found.posterior.moments())
    np.testing.assert_allclose(mean[2:], gain @ grid.mean, atol=1e-4)
    rest = whole[2:, 2:] - gain @ whole[:2, 2:]
    np.testing.assert_allclose(spread[2:, 2:], rest + gain @ grid.covariance @ gain.T, atol=2e-4)
    np.testing.assert_allclose(spread[2:, :2], gain @ grid.covariance, atol=2e-4)


def test_many_weak_ranges_leave_no_drift() -> None:
    """A hundred and twenty readings of a still target, one after another, against all at once on a grid."""
    generator = np.random.default_rng(5)
    origins = [[-9.0, 0.0], [0.0, -10.0], [8.0, -8.0]]
    belief, truth = two_components(1.0), np.array([0.4, -0.3])
    start, total = belief, []
    for turn in range(120):
        origin = origins[turn % 3]
        value = float(np.hypot(*(truth - origin)) + 2.0 * generator.normal())
        total.append((origin, value))
        found = answer(belief, read(sensors.range_to([0, 1], 2, origin, 2.0), value))
        assert found is not None
        belief = found.posterior

    def log_likelihood(points: Array) -> Array:
        offs = [(value - np.hypot(*(points - origin).T)) / 2.0 for origin, value in total]
        return np.asarray(-0.5 * np.square(offs).sum(0))

    grid = exact(start, log_likelihood, 281)
    assert grid.divergence(belief) < 0.01


@pytest.mark.parametrize("outliers", [0.0, OUTLIERS])
@pytest.mark.parametrize(
    ("spread", "away", "value"),
    [
        pytest.param(3.0, 1.0, 4.0, id="ring around the sensor"),
        pytest.param(3.0, 12.0, 13.0, id="arc"),
        pytest.param(0.2, 8.0, 8.3, id="narrow prior"),
        pytest.param(2.0, 5.0, 1.6, id="small ring"),
        pytest.param(2.0, 30.0, 35.0, id="far from what was expected"),
    ],
)
def test_a_range_has_the_exact_evidence_and_measures_its_divergence(
    spread: float, away: float, value: float, outliers: float
) -> None:
    prior = two_components(spread)
    sensor = sensors.range_to([0, 1], 2, [-away, 0.0], NOISE, outliers, SPAN)
    found = answer(prior, read(sensor, value))
    assert found is not None
    grid = exact(prior, lambda points: distance_likelihood(points, away, value, outliers), 1201)
    true = grid.divergence(found.posterior)
    assert float(found.log_evidence[0]) == pytest.approx(grid.log_evidence, abs=5e-4)
    assert -0.05 * true - 5e-4 < float(found.lost[0]) - true < 0.05 * true + (0.02 if outliers else 5e-4)
    assert found.method.tolist() == [Method.QUADRATURE]


@pytest.mark.parametrize("outliers", [0.0, OUTLIERS])
@pytest.mark.parametrize(
    ("spread", "away", "value", "noise"),
    [
        pytest.param(3.0, 1.0, 0.7, 0.1, id="from inside"),
        pytest.param(3.0, 12.0, 0.2, 0.05, id="beam"),
        pytest.param(2.0, 1.0, 2.0, 0.4, id="wide beam"),
        pytest.param(0.2, 8.0, 0.05, 0.2, id="narrow prior"),
        pytest.param(2.0, 9.0, -0.6, 0.05, id="beside what was expected"),
    ],
)
def test_a_bearing_has_the_exact_evidence_and_measures_its_divergence(
    spread: float, away: float, value: float, noise: float, outliers: float
) -> None:
    prior = two_components(spread)
    sensor = sensors.bearing([0, 1], 2, [-away, 0.0], noise, outlier_probability=outliers)
    found = answer(prior, read(sensor, value))
    assert found is not None
    grid = exact(prior, lambda points: direction_likelihood(points, away, value, noise, outliers), 1201)
    true = grid.divergence(found.posterior)
    assert float(found.log_evidence[0]) == pytest.approx(grid.log_evidence, abs=2e-3)
    assert -0.1 * true - 1e-3 < float(found.lost[0]) - true < 0.1 * true + (0.02 if outliers else 1e-3)


def test_a_short_arc_gets_exact_moments_of_the_whole_state() -> None:
    """Velocities follow by regression on the position."""
    away, value, covariance = 9.0, 9.6, np.array([[0.5, 0.1, 1.1, 0.0], [0.1, 0.4, 0.0, 0.8]])
    whole = np.block([[covariance], [covariance[:, 2:].T, np.diag([3.0, 2.5])]])
    prior = GaussianMixture.gaussian(torch.zeros(1, 4).double(), torch.from_numpy(whole)[None])
    found = answer(prior, read(sensors.range_to([0, 1], 4, [-away, 0.0], NOISE), value, 4), UpdateSettings())
    grid = exact(prior.marginal([0, 1]), lambda points: distance_likelihood(points, away, value, 0.0), 801)
    gain = whole[2:, :2] @ np.linalg.inv(whole[:2, :2])
    assert found is not None
    mean, spread = (part[0].numpy() for part in found.posterior.moments())
    np.testing.assert_allclose(mean, np.concatenate([grid.mean, gain @ grid.mean]), atol=2e-3)
    rest = whole[2:, 2:] - gain @ whole[:2, 2:]
    np.testing.assert_allclose(spread[:2, :2], grid.covariance, atol=2e-3)
    np.testing.assert_allclose(spread[2:, 2:], rest + gain @ grid.covariance @ gain.T, atol=2e-3)


def test_an_answer_does_not_depend_on_its_batch() -> None:
    prior = random_mixture(3, 4, 6, 4).ordered()
    readings = [[Reading(sensors.range_to([0, 1], 4, [9.0, i], 0.3), np.array([8.0 + i]))] for i in range(4)]
    together = answer(prior, encode(readings, 4))
    alone = answer(prior.rows(torch.tensor([2])), encode(readings[2:3], 4))
    assert together is not None and alone is not None
    assert float(together.lost[2]) == float(alone.lost[0])
    count = alone.posterior.components
    torch.testing.assert_close(together.posterior.means[2, :count], alone.posterior.means[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("sensor", "value"),
    [
        pytest.param(sensors.range_to([0, 1], 4, [1.0, 0.0], 0.5), 1.0, id="a ring as small as its noise"),
        pytest.param(
            sensors.relative_bearing([0, 1], 2, 4, [9.0, 0.0], 0.05), 3.0, id="a bearing from a heading"
        ),
        pytest.param(sensors.range_to([0], 4, [9.0], 0.5), 9.0, id="a range along a line"),
        pytest.param(sensors.range_to([0, 1, 2], 4, [9.0, 0.0, 0.0], 0.5), 9.0, id="a range in space"),
    ],
)
def test_other_observations_are_left(sensor: Sensor, value: float) -> None:
    assert answer(random_mixture(3, 1, 2, 4).ordered(), read(sensor, value, 4)) is None


def test_it_is_used_where_speed_comes_first_too() -> None:
    """One pass of the network takes longer, and loses more."""
    prior = random_mixture(3, 1, 6, 4).ordered()
    observations = read(sensors.range_to([0, 1], 4, [9.0, 0.0], 0.3), 8.0, 4)
    assert taken(single_observation, prior, observations, ANY)[0].tolist() == [0]
    fast = replace(FAST, quadrature_below=ANY.quadrature_below)
    assert taken(single_observation, prior, observations, fast)[0].tolist() == [0]


def crossing() -> tuple[Mixture, Sensor, Array]:
    """A ring in 12 pieces, and a second range that crosses it twice."""
    turns = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    across = np.stack([np.cos(turns), np.sin(turns)], 1)
    along = np.stack([-np.sin(turns), np.cos(turns)], 1)
    covariances = 144 * np.einsum("ki,kj->kij", along, along) + 0.25 * np.einsum("ki,kj->kij", across, across)
    prior = Mixture(np.full(12, 1 / 12), 50 * across, covariances)
    return prior, sensors.range_to([0, 1], 2, [60.0, 10.0], 0.5), np.array([55.0])


def test_an_answer_does_not_depend_on_a_function_in_its_batch() -> None:
    prior = random_mixture(3, 2, 6, 4).ordered()
    plain = [Reading(sensors.range_to([0, 1], 4, [9.0, 0.0], 0.3), np.array([8.0]))]
    other = [Reading(sensors.signal_strength([0, 1], 4, (9.0, 0.0), 6.0, -59.0, 1.8), np.array([-70.0]))]
    together = answer(prior, encode([plain, other], 4))
    alone = answer(prior.rows(torch.tensor([0])), encode([plain], 4))
    assert together is not None and alone is not None
    assert len(together.lost) == 1
    assert float(together.lost[0]) == pytest.approx(float(alone.lost[0]), abs=1e-12)


def sensor(kind: str, where: Sequence[float], noise: float, outlier: float = 0.0) -> Sensor:
    if kind == "range":
        return range_to((0, 1), 2, where, noise, outlier, 500.0)
    return bearing((0, 1), 2, where, noise, outlier)


def mixture(update: Answer) -> Mixture:
    posterior = update.posterior
    weights = posterior.log_weights[0].exp().numpy()
    there = weights > 0
    return Mixture(weights[there], posterior.means[0, there].numpy(), posterior.covariances[0, there].numpy())


def surrounded(
    prior: GaussianMixture, observations: Observations, chosen: UpdateSettings = SETTINGS
) -> tuple[Tensor, Answer]:
    """Places and answers."""
    return taken(single_observation, prior, observations, chosen)


def priors(batch: int, components: int) -> GaussianMixture:
    """Wide priors over four coordinates, whose plane is that of `AXES`, correlated with the others."""
    random = torch.Generator().manual_seed(components)
    root = torch.randn(batch, components, 4, 4, generator=random, dtype=torch.float64)
    means = torch.randn(batch, components, 4, generator=random, dtype=torch.float64)
    logs = torch.log_softmax(torch.randn(batch, components, generator=random, dtype=torch.float64), 1)
    covariances = 400 * (root @ root.mT / 4 + 0.3 * torch.eye(4, dtype=torch.float64))
    return GaussianMixture(logs, 30 * means, covariances).ordered()


def observed(batch: int, outliers: float) -> Observations:
    """Ranges and bearings in turns."""
    kinds: list[Sensor] = [
        sensors.range_to(AXES, 4, [40.0, -25.0], 0.5, outliers, 500.0),
        sensors.bearing(AXES, 4, [-60.0, 10.0], 0.01, outliers),
    ]
    values = (50.0, 0.2)
    return encode([[Reading(kinds[i % 2], np.array([values[i % 2] + 0.01 * i]))] for i in range(batch)], 4)


@pytest.mark.parametrize("components", [1, 6])
def test_a_fit_does_not_depend_on_its_batch(components: int) -> None:
    prior, observations = priors(8, components), observed(8, 0.1)
    index, together = surrounded(prior, observations)
    for row, place in enumerate(index.tolist()):
        one = torch.tensor([place])
        _, alone = surrounded(prior.rows(one), observations.rows_of(one))
        assert float(alone.lost[0]) == float(together.lost[row])
        count = alone.posterior.components
        assert torch.equal(alone.posterior.means[0], together.posterior.means[row, :count])


@pytest.mark.parametrize(
    ("prior", "source", "value"),
    [
        pytest.param(WIDE, sensor("range", [20.0, -30.0], 0.5), 90.0, id="ring"),
        pytest.param(WIDE, sensor("range", [20.0, -30.0], 0.5, 0.2), 90.0, id="ring or outlier"),
        pytest.param(WIDE, sensor("bearing", [-5.0, 10.0], 0.03, 0.1), 3.1, id="beam from inside"),
        # its direction is less likely than any that lines are usually taken for
        pytest.param(WIDE, sensor("bearing", [110.0, 55.0], 0.03, 0.1), 0.352, id="beam that leads away"),
    ],
)
def test_a_fit_says_how_far_it_is_from_the_exact_posterior(
    prior: Mixture, source: Sensor, value: float
) -> None:
    reading = Reading(source, np.array([value]))
    _, update = surrounded(stacked([prior]).ordered(), encode([(reading,)], 2))
    truth = solve(prior, (reading,), np.random.default_rng(5))
    distance = truth.divergence(mixture(update))
    assert float(update.log_evidence[0]) == pytest.approx(truth.log_evidence, abs=0.05)
    assert -0.05 - 2 * distance.error < float(update.lost[0]) - distance.value < 0.15
    assert float(update.sample_efficiency[0]) <= math.exp(-2 * distance.value) + 0.1


def test_a_weak_arc_along_a_ring_is_left_to_others_who_say_how_far_they_are() -> None:
    reading = Reading(sensor("range", [0.0, 0.0], 0.5), np.array([100.0]))
    prior, observations = stacked([ARC]).ordered(), encode([(reading,)], 2)
    assert len(taken(single_observation, prior, observations, SETTINGS)[0]) == 0
    update = updater().update(prior, observations)
    distance = solve(ARC, (reading,), np.random.default_rng(5)).divergence(mixture(update))
    assert distance.value < 0.1
    assert abs(float(update.lost[0]) - distance.value) < 0.03 + distance.error


@pytest.mark.parametrize(("outliers", "is_solved"), [(0.1, True), (0.0, False)])
def test_a_beam_that_leads_away_is_solved_only_where_nothing_of_it_is_too_far(
    outliers: float, is_solved: bool
) -> None:
    prior = stacked([gaussian([0.0, 0.0], [60.0, 60.0])])
    source = bearing((0, 1), 2, [330.0, 165.0], 0.0003, outliers)
    observations = encode([(Reading(source, np.array([0.463])),)], 2)
    assert bool(len(taken(single_observation, prior, observations, SETTINGS)[0])) == is_solved
