"""Tracks that turn: the simulation against the filter's own motion, and beliefs against particles."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from beliefstream.inference.mixtures.coverage import REGIONS
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.settings import FAST, WORKER, UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.evaluation.turns.particles import Held, hold, particles
from research.evaluation.turns.run import MEAN, MOTION, STEP, advanced, prior, run, thresholds
from tests.inference.problems import updater

STEPS, TRACKS, SEED = 10, 5, 4


def fast(bend_below: float = FAST.bend_below) -> Updater:
    return Updater(updater().network, settings=replace(FAST, bend_below=bend_below))


def test_simulated_tracks_move_as_the_filter_believes() -> None:
    count, mean = 40_000, np.array([50.0, -20.0, 8.0, 3.0, 0.4])
    spread = np.array([1.0, 1.0, 2.0, 2.0, 0.1])
    random = np.random.default_rng(1)
    points = advanced(mean + spread * random.normal(size=(count, 5)), random, 8)
    covariance = torch.diag(torch.from_numpy(spread**2))
    belief = GaussianMixture.gaussian(torch.from_numpy(mean)[None], covariance[None])
    exact, around = MOTION.predict(belief, torch.tensor([STEP]).double()).moments()
    deviation = around[0].diagonal().sqrt().numpy()
    assert np.abs((points.mean(0) - exact[0].numpy()) / deviation).max() < 5 / count**0.5
    found = np.cov(points.T) / np.outer(deviation, deviation)
    assert np.abs(found - around[0].numpy() / np.outer(deviation, deviation)).max() < 0.03


def test_the_first_particles_are_the_posterior_of_the_first_report() -> None:
    # by another way: draws of the prior, weighted by the likelihood written out
    report = np.array([215.0, 0.1])
    found = particles(report[None], 50_000, 1)[0]
    draws = prior(1).sample(2_000_000, torch.Generator().manual_seed(2))[0].numpy()
    distance, angle = np.hypot(draws[:, 0], draws[:, 1]), np.arctan2(draws[:, 1], draws[:, 0])
    weights = np.exp(-0.5 * ((report[0] - distance) / 2.0) ** 2 - 0.5 * ((report[1] - angle) / 0.03) ** 2)
    weights /= weights.sum()
    mean = weights @ draws
    deviation = np.sqrt(weights @ (draws - mean) ** 2)
    assert np.abs((found.mean(0) - mean) / deviation).max() < 0.1
    assert np.abs(found.std(0) / deviation - 1).max() < 0.1


def test_edges_of_regions_hold_their_mass() -> None:
    belief = prior(3)
    edges = thresholds(belief, torch.Generator().manual_seed(0))
    density = belief.log_density(belief.sample(20_000, torch.Generator().manual_seed(1)))
    mass = (density[..., None] > edges[:, None]).double().mean(1)
    assert float((mass - torch.tensor(REGIONS)).abs().max()) < 0.05
    assert edges.shape == (3, len(REGIONS)) and belief.dimension == len(MEAN)


@pytest.fixture(scope="module")
def held() -> tuple[Held, Held]:
    """Divided before it bends, and not."""
    divided, whole = (hold(fast(below), 8000, STEPS, TRACKS, SEED) for below in (FAST.bend_below, 0.0))
    return divided, whole


def test_beliefs_hold_as_much_of_the_exact_posterior_as_they_say(held: tuple[Held, Held]) -> None:
    # over the first steps regions are a little wide
    assert held[0].mass == pytest.approx(REGIONS, abs=0.07)


def test_beliefs_that_were_not_divided_are_further_from_the_exact_ones(held: tuple[Held, Held]) -> None:
    divided, whole = held
    assert divided.cross_entropy < whole.cross_entropy - 0.2


def test_a_short_run_loses_no_track_and_is_json() -> None:
    found = run(fast(), STEPS, TRACKS, SEED)
    assert found.lost() == []
    assert found.levels.shape == (STEPS, TRACKS)
    assert float(found.loss[0].max()) == 0 < float(found.loss[1:].min())
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["tracks"] == TRACKS and len(content["coverage"]) == len(REGIONS)
    far = replace(found, surprise=found.surprise + torch.tensor([0.0, 0.0, 0.0, 0.0, 200.0]))
    assert far.lost() == [4]


def test_a_track_that_is_lost_where_components_stay_whole_is_kept_where_they_are_divided() -> None:
    whole, divided = (run(fast(below), 20, 6, seed=100) for below in (0.0, FAST.bend_below))
    assert whole.lost() == [3] and divided.lost() == []
    assert float(whole.surprise.mean(0)[3] - divided.surprise.mean(0)[3]) > 2


def test_a_run_of_nothing_or_of_too_few_particles_is_refused() -> None:
    with pytest.raises(ValueError, match="steps, entities"):
        run(fast(), 0, 6)
    with pytest.raises(ValueError, match="count"):
        hold(fast(), 10, STEPS, TRACKS)


@pytest.mark.soak
@pytest.mark.parametrize("settings", [UpdateSettings(), WORKER], ids=["library", "worker"])
def test_over_two_hundred_steps_no_track_is_lost_and_regions_cover_what_they_should(
    settings: UpdateSettings,
) -> None:
    found = run(Updater(updater().network, settings=settings), 200, 40, seed=7)
    assert found.lost() == []
    assert 0.88 <= found.coverage()[1].share <= 0.92
