"""A cut of every recording through every method: near the truth, and found again from a prior of 1 km."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer
from beliefstream.inference.update.updater import Updater, UpdateSettings
from beliefstream.schemas import Mixture, Model, Posterior, parse
from beliefstream.streams.local.offline_log import Fused
from beliefstream.streams.scores import Row, score
from beliefstream.streams.scores.filters import (
    ExtendedKalmanFilter,
    IteratedKalmanFilter,
    RegularisedParticleFilter,
)
from beliefstream.streams.scores.methods import OURS, classical
from beliefstream.streams.scores.recording import Recording
from research.recordings.readers import RecordingReader
from research.recordings.tuning import first_third, tune
from tests.research.recordings.test_readers import recorded

# not imported with this file: that takes seconds in every process that collects it
pytestmark = pytest.mark.skipif(find_spec("scoringrules") is None, reason="the energy score comes from it")
FEW = classical(particles=3_000)


@pytest.fixture(scope="module")
def updater() -> Updater:
    """With a small network that never was trained: the check and the refinement make its answers right."""
    torch.manual_seed(0)
    network = DistributionTransformer(Configuration(width=8, layers=1, heads=2, hidden=8))
    return Updater(network, settings=UpdateSettings(points=64, refine_points=256))


def cut(name: str, request: pytest.FixtureRequest, seconds: float, scored_from: float) -> Recording:
    """The beginning of a recording, scored from some seconds on."""
    recording = recorded(name, request)
    first = recording.observations[0].time
    kept = [o for o in recording.observations if o.time < first + seconds]
    return dataclasses.replace(recording, observations=kept, scored_from=first + scored_from)


CUTS = {  # seconds, of them not scored, and the most that an error may be, m
    "plaza2": (12.0, 4.0, 2.0),
    "uwb_planar": (5.0, 1.0, 0.3),
    "mrclam_robot1": (12.0, 2.0, 0.5),
    "ble_rssi": (4.0, 1.0, 15.0),
    "laser_radar": (2.5, 1.0, 0.6),
    "ais_solent": (20.0, 2.0, 60.0),
}


def test_one_filter_beside_ours_has_a_gate_and_particles_are_as_many_as_asked_for() -> None:
    far = sensors.Reading(sensors.position([0], 1, [[1.0]]), np.array([30.0]))
    observations = sensors.encode([[far]], 1)
    methods = classical(particles=500, seed=3)
    names = ["extended Kalman", "iterated Kalman", "particles 500", "gated Kalman"]
    assert [method.name for method in methods] == names
    prior = GaussianMixture.gaussian(torch.zeros(1, 1).double(), torch.ones(1, 1, 1).double())
    for method in (*methods[:2], methods[3]):
        belief = method.begin(prior)
        belief.update(observations)
        assert isinstance(belief, ExtendedKalmanFilter | IteratedKalmanFilter)
        # 30 deviations off, and taken in all the same but by the last
        assert float(belief.mean[0, 0]) == pytest.approx(0.0 if method is methods[3] else 15.0)
    begun = [classical(500, seed)[2].begin(prior) for seed in (3, 3, 4)]
    clouds = [belief.particles for belief in begun if isinstance(belief, RegularisedParticleFilter)]
    assert [cloud.shape for cloud in clouds] == [(1, 500, 1)] * 3
    assert torch.equal(clouds[0], clouds[1]) and not torch.equal(clouds[0], clouds[2])


@pytest.mark.parametrize("name", CUTS)
def test_every_method_follows_a_recording(
    name: str, request: pytest.FixtureRequest, updater: Updater
) -> None:
    seconds, unscored, most = CUTS[name]
    recording = cut(name, request, seconds, unscored)
    taken: list[Fused] = []
    rows = score(recording, updater, take=taken.append, methods=FEW)
    assert [row.method for row in rows] == [OURS, *(method.name for method in FEW)]
    for row in rows:
        assert row.cases == rows[0].cases > 5
        assert row.divergences == 0
        assert row.rmse < most, row
    posterior = parse(Posterior, taken[-1].to_json())
    last = posterior.applied[-1]
    assert recording.observations[int(last.removeprefix("line:")) - 1].time == posterior.time


def with_wide_prior(recording: Recording, deviation: float = 1000.0) -> Recording:
    """With this deviation of the scored coordinates, and a mean that is as far off."""
    model, prior = recording.model, recording.model.prior
    axes = [model.coordinate_names.index(name) for name in recording.coordinates]
    mean, deviations = np.array(prior.mean()), np.array(prior.standard_deviations())
    away = np.linspace(0.6, -0.8, len(axes))
    mean[axes] += deviation * away / np.linalg.norm(away)
    deviations[axes] = deviation
    wide = Mixture.gaussian(mean.tolist(), deviations.tolist())
    return dataclasses.replace(recording, model=model.model_copy(update={"prior": wide}))


@pytest.mark.parametrize("name", [name for name in CUTS if name != "ais_solent"])  # whose truth nobody knows
def test_from_a_prior_of_a_kilometre_it_is_found(name: str, request: pytest.FixtureRequest) -> None:
    seconds, _, most = CUTS[name]
    wide = with_wide_prior(cut(name, request, 2 * seconds, seconds))
    (row,) = score(wide, Updater(weights.load()), methods=())
    assert row.rmse < 2 * most


def _with_density(recording: Recording, density: float) -> Model:
    motion = recording.model.motion.model_copy(update={"spectral_density": density})
    return recording.model.model_copy(update={"motion": motion})


@dataclasses.dataclass(frozen=True)
class Chosen:
    spectral_density: float = 0.02
    deviation: float = 0.1


def test_settings_are_those_under_which_the_truth_is_densest(
    request: pytest.FixtureRequest, updater: Updater
) -> None:
    def read_cut(data: object = None, settings: Chosen | None = None) -> Recording:
        recording = cut("laser_radar", request, 3.0, 3.0)
        return dataclasses.replace(
            recording, model=_with_density(recording, (settings or Chosen()).spectral_density)
        )

    heard: list[tuple[str, float, Row]] = []
    reader = RecordingReader(read_cut, lambda data: Chosen(), ("spectral_density", "deviation"))
    chosen = tune(reader, None, updater, lambda *one: heard.append(one), grid_ratios=(4.0,))
    assert [name for name, _, _ in heard] == ["spectral_density"] * 5 + ["deviation"] * 5
    best = min(heard[:5], key=lambda one: one[2].negative_log_likelihood)
    assert chosen.spectral_density == pytest.approx(best[1], rel=1e-3)
    assert chosen.spectral_density > 0.02
    assert chosen.deviation == 0.1  # nothing depends on it: it stays


def test_the_first_third_holds_nothing_that_is_scored(request: pytest.FixtureRequest) -> None:
    recording = recorded("ais_solent", request)
    part = first_third(recording)
    assert part.observations[0].time < part.scored_from
    assert max(o.time for o in part.observations) < recording.scored_from
    assert 15 <= len(part.models) <= 20
    assert {o.entity for o in part.observations} <= {model.entity for model in part.models}
