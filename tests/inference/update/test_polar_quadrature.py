"""Quadrature around a sensor against dense sums over a grid, and against code that shares none with it."""

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
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update.curved_quadrature import follow
from beliefstream.inference.update.polar_quadrature import is_one_in_the_plane, surround
from beliefstream.inference.update.quadrature_update import settle
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.scaled_problem import pose
from beliefstream.inference.update.settings import FAST, UpdateSettings
from research.evaluation.adversarial.mixtures import Mixture
from tests.inference.plain_models import random_mixture
from tests.inference.update.test_curved_quadrature import (
    NOISE,
    OUTLIERS,
    SPAN,
    distance_likelihood,
    either,
    read,
    two_components,
)
from tests.inference.update.test_quadrature import Array, exact

ANY = replace(UpdateSettings(), quadrature_below=1e3)  # every answer, however poor
few = settings(max_examples=25, deadline=None)


def answer(prior: GaussianMixture, observations: Observations, chosen: UpdateSettings = ANY) -> Update | None:
    posed = pose(prior, observations, math.inf)
    found = list(surround(posed.scaled, posed.touched, torch.ones(prior.batch, dtype=torch.bool), chosen))
    return found[0][1] if found else None


def direction_likelihood(points: Array, away: float, value: float, noise: float, outliers: float) -> Array:
    off = value - np.arctan2(points[:, 1], points[:, 0] + away)
    off = np.remainder(off + math.pi, 2 * math.pi) - math.pi
    return either(off / noise, noise, outliers, 2 * math.pi)


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
    assert (
        -0.05 * true - 5e-4 < float(found.divergence[0]) - true < 0.05 * true + (0.02 if outliers else 5e-4)
    )
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
    assert -0.1 * true - 1e-3 < float(found.divergence[0]) - true < 0.1 * true + (0.02 if outliers else 1e-3)


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


@few
@given(st.integers(0, 10_000), st.sampled_from(["range", "bearing"]), st.booleans())
def test_the_evidence_is_that_of_quadrature_along_the_observation_where_that_is_accurate(
    seed: int, kind: str, outliers: bool
) -> None:
    prior = random_mixture(seed, 1, 4, 4).ordered()
    random = np.random.default_rng(seed)
    turn, away = random.uniform(-math.pi, math.pi), random.uniform(8, 60)
    where = [away * math.cos(turn), away * math.sin(turn)]
    share = 0.1 * outliers
    if kind == "range":
        reading = Reading(
            sensors.range_to([2, 0], 4, where, 0.3, share, SPAN), np.array([away + random.normal()])
        )
    else:
        value = math.remainder(turn + math.pi + 0.05 * random.normal(), math.tau)
        reading = Reading(sensors.bearing([2, 0], 4, where, 0.05, share), np.array([value]))
    observations = encode([[reading]], 4)
    posed = pose(prior, observations, math.inf)
    along = list(follow(posed.scaled, posed.touched, torch.ones(1, dtype=torch.bool), UpdateSettings()))
    around = answer(prior, observations)
    if along and around is not None:
        assert float(around.log_evidence[0]) == pytest.approx(float(along[0][1].log_evidence[0]), abs=3e-3)


def test_an_answer_does_not_depend_on_its_batch() -> None:
    prior = random_mixture(3, 4, 6, 4).ordered()
    readings = [[Reading(sensors.range_to([0, 1], 4, [9.0, i], 0.3), np.array([8.0 + i]))] for i in range(4)]
    together = answer(prior, encode(readings, 4))
    alone = answer(prior.rows(torch.tensor([2])), encode(readings[2:3], 4))
    assert together is not None and alone is not None
    assert float(together.divergence[2]) == float(alone.divergence[0])
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


def test_a_small_speed_is_no_ring_and_its_updates_need_no_search() -> None:
    """A search, for which lines around the sensor stand otherwise, is ten times as slow as one pass."""
    slow, fast = (encode([[Reading(sensors.speed([2, 3], 4, 0.5), np.array([v]))]], 4) for v in (1.0, 9.0))
    touched = torch.tensor([[False, False, True, True]])
    assert not is_one_in_the_plane(slow, touched).any()
    assert is_one_in_the_plane(fast, touched).all()


def test_it_is_used_where_speed_comes_first_too() -> None:
    """One pass of the network takes longer, and loses more."""
    prior = random_mixture(3, 1, 6, 4).ordered()
    observations = read(sensors.range_to([0, 1], 4, [9.0, 0.0], 0.3), 8.0, 4)
    posed = pose(prior, observations, math.inf)
    given = posed.prior, observations, posed.touched, posed.scaled, torch.ones(1, dtype=torch.bool)
    index, update = settle(*given, ANY)
    assert index.tolist() == [0] and update is not None
    fast = replace(FAST, quadrature_below=ANY.quadrature_below)
    assert settle(*given, fast)[0].tolist() == [0]


def test_where_an_answer_would_be_poor_a_mixture_is_fitted_unless_the_observation_is_weak() -> None:
    prior = two_components(30.0)
    observations = read(sensors.range_to([0, 1], 2, [-5.0, 0.0], NOISE), 40.0)
    found, every = answer(prior, observations, UpdateSettings()), answer(prior, observations)
    assert found is not None and every is not None
    assert (found.method.tolist(), every.method.tolist()) == ([Method.REFINED], [Method.QUADRATURE])
    strict = replace(UpdateSettings(), quadrature_below=1e-12)
    weak = read(sensors.range_to([0, 1], 2, [-5.0, 0.0], 100.0), 500.0)
    assert answer(prior, weak, strict) is None
    assert answer(prior, observations, replace(strict, repeat_below=0.999)) is None


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
    assert len(together.divergence) == 1
    assert float(together.divergence[0]) == pytest.approx(float(alone.divergence[0]), abs=1e-12)
