"""Measures the posteriors per second of the update alone, of an EKF in Stone Soup and of a particle filter."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.training.families import planar
from beliefstream.inference.update.settings import FAST
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.scores.filters import ParticleFilter

BATCH = 512
PARTICLES = 1000


class Speed(NamedTuple):
    """One line of the table."""

    name: str
    per_second: float
    note: str


def timed(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of one call in seconds, after a call that is not counted."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def tracks(count: int = BATCH, seed: int = 0) -> tuple[GaussianMixture, Observations]:
    """Return a batch of tracks: position and velocity in the plane, two components, one range or bearing each."""
    random = np.random.default_rng(seed)
    states = np.concatenate([random.uniform(-80, 80, (count, 2)), random.normal(0, 1.5, (count, 2))], 1)
    spread = np.diag([9.0, 9.0, 1.0, 1.0])
    spread[0, 2] = spread[2, 0] = spread[1, 3] = spread[3, 1] = 2.0
    apart = random.normal(0, 4, (count, 4)) * np.array([1, 1, 0.1, 0.1])
    means = np.stack([states, states + apart], 1)
    weights = torch.tensor([0.7, 0.3], dtype=torch.float64).expand(count, -1)
    covariances = torch.as_tensor(spread).expand(count, 2, -1, -1)
    prior = GaussianMixture.from_weights(weights, torch.as_tensor(means), covariances)
    ranges = sensors.range_to([0, 1], 4, [100.0, 100.0], 0.5, 0.1, 300.0)
    bearings = sensors.bearing([0, 1], 4, [-100.0, 0.0], 0.03, 0.1)
    readings = []
    for index, state in enumerate(states):
        if index % 2:
            value = np.hypot(*(state[:2] - 100)) + 0.5 * random.normal()
            readings.append([Reading(ranges, np.array([value]))])
        else:
            value = np.arctan2(state[1], state[0] + 100) + 0.03 * random.normal()
            readings.append([Reading(bearings, np.array([value]))])
    return prior, encode(readings, 4)


def hard_problems(count: int = BATCH, seed: int = 5) -> tuple[GaussianMixture, Observations]:
    """Return problems of the planar family: up to 8 components, 1 to 6 observations, half of them with outliers."""
    problems = planar().sample(count, 2, torch.Generator().manual_seed(seed))
    return problems.prior.to(dtype=torch.float64).normalised(), problems.observations.to(dtype=torch.float64)


def stone_soup_update() -> Callable[[], object]:
    """Return a function that runs one EKF update in Stone Soup: 4 coordinates, range and bearing."""
    from stonesoup.models.measurement.nonlinear import CartesianToBearingRange
    from stonesoup.types.detection import Detection
    from stonesoup.types.hypothesis import SingleHypothesis
    from stonesoup.types.prediction import GaussianStatePrediction
    from stonesoup.updater.kalman import ExtendedKalmanUpdater

    model = CartesianToBearingRange(
        ndim_state=4,
        mapping=(0, 2),
        noise_covar=np.diag([0.03**2, 0.5**2]),
        translation_offset=np.array([[100.0], [100.0]]),
    )
    updater = ExtendedKalmanUpdater(model)
    start = datetime(2026, 1, 1)
    mean, covariance = np.array([[1.0], [0.5], [2.0], [0.1]]), np.diag([9.0, 1.0, 9.0, 1.0])
    value = model.function(GaussianStatePrediction(mean, covariance, timestamp=start), noise=False)
    counter = iter(range(10**9))

    def work() -> object:
        # a new time for each call, so that no result is cached
        when = start + timedelta(seconds=next(counter))
        prediction = GaussianStatePrediction(mean, covariance, timestamp=when)
        hypothesis = SingleHypothesis(prediction, Detection(value, timestamp=when, measurement_model=model))
        return updater.update(hypothesis)

    return work


def measure_update(updater: Updater, small: Updater, repeats: int = 9) -> list[Speed]:
    """Measure all lines of the table; the first is the baseline of the ratios. `small` has the small network."""
    torch.set_num_threads(1)
    soup = timed(stone_soup_update(), 300)
    lines = [Speed("Stone Soup, one EKF update", 1 / soup, "range + bearing, one Gaussian, not checked")]
    prior, observations = tracks()
    generator = torch.Generator().manual_seed(1)

    def particles() -> object:
        # a new filter for each call, so that every call starts from the prior
        few = slice(0, 64)
        cloud = ParticleFilter(prior.rows(few), PARTICLES, generator)
        cloud.update(observations.rows_of(few))
        return cloud.density().moments()[0]

    each = timed(particles, repeats) / 64
    lines.append(Speed(f"particle filter, {PARTICLES} particles", 1 / each, "the same tracks, 64 at a time"))
    seconds = timed(lambda: updater.update(prior, observations), repeats)
    lines.append(Speed("update, tracks", BATCH / seconds, "batch 512, one range or bearing each, checked"))
    prior, observations = hard_problems()
    seconds = timed(lambda: updater.update(prior, observations), repeats)
    share = float((updater.update(prior, observations).method == 1).double().mean())
    note = f"batch 512, up to 8 components and 6 observations, checked, {share:.0%} refined"
    lines.append(Speed("update, planar family", BATCH / seconds, note))
    for name, network in (("fast", updater.network), ("fast and small", small.network)):
        fast = Updater(network, settings=FAST)
        seconds = timed(lambda fast=fast: fast.update(prior, observations), repeats)  # type: ignore[misc]
        lines.append(Speed(f"{name}, planar family", BATCH / seconds, "checked, not refined"))
    return lines
