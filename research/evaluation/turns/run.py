"""Calibration over hundreds of steps of a nonlinear motion: turning aircraft observed by one radar.

Each track has a speed and a turn rate that vary slowly. Once a second a radar at the origin reports range and bearing.
Speed and turn rate are unknown at first, so the position after one step may be anywhere along an arc. The initial state
is drawn from the prior, so every belief must be calibrated.

The simulation uses small steps of constant turn rate, and no code of the filter. `particles.py` is the
exact filter on the same tracks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.coverage import DRAWS, REGIONS, levels
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import CoordinatedTurn
from beliefstream.inference.sensors import bearing, range_to
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.prediction import move
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.likelihood import wrapped
from research.evaluation.calibration import Coverage, coverage_over

Array = NDArray[np.float64]
STEP = 1.0  # s
MEAN = (200.0, 0.0, 0.0, 0.0, 0.0)  # m, m/s, rad/s
SPREAD = (60.0, 60.0, 10.0, 10.0, 0.2)  # standard deviations of the prior, in the same units
ACCELERATION, WANDER = 0.1, 1e-4  # spectral densities: m²/s³ along each axis, rad²/s³
RANGE, BEARING = 2.0, 0.03  # standard deviations of the radar: m, rad
MOTION = CoordinatedTurn(acceleration_density=ACCELERATION, turn_rate_density=WANDER)
RADAR = (range_to([0, 1], 5, (0.0, 0.0), RANGE), bearing([0, 1], 5, (0.0, 0.0), BEARING))
LOST = 5.0  # nats per step by which the true states of a lost track are less likely than those of the median track
SMALL_STEPS = 8  # number of steps of the simulation per step of the filter


class Tracks(NamedTuple):
    """States ``(S, E, 5)`` and the radar's reports of them ``(S, E, 2)``."""

    states: Array
    reports: Array


@dataclass(frozen=True)
class TurnRun:
    """Beliefs after each of ``S`` steps of ``E`` tracks, compared with the truth; each ``(S, E)``."""

    levels: Tensor  # see `calibration`
    surprise: Tensor  # negative log density of the true state, nats
    sample_efficiency: Tensor
    loss: Tensor  # of the motion, as reported, nats
    components: Tensor
    milliseconds: tuple[float, float]  # of motion and of update, per track and step

    def coverage(self) -> list[Coverage]:
        """Return the coverage of each region, with the standard error over tracks."""
        return coverage_over(self.levels)

    def lost(self) -> list[int]:
        """Return the tracks whose true states are far less likely than those of the median track."""
        by_track = self.surprise.mean(0)
        far = by_track > by_track.median() + LOST
        return [int(track) for track in torch.nonzero(far)[:, 0]]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a JSON value."""
        steps, tracks = self.levels.shape
        by_track = self.surprise.mean(0)
        return {
            "steps": steps,
            "tracks": tracks,
            "coverage": [row._asdict() for row in self.coverage()],
            "lost": self.lost(),
            "median_negative_log_density": float(by_track.median()),
            "worst_negative_log_density": float(by_track.max()),
            "least_sample_efficiency": float(self.sample_efficiency.min()),
            "loss_of_motion": float(self.loss.mean()),
            "components": float(self.components.mean()),
            "milliseconds_of_motion": self.milliseconds[0],
            "milliseconds_of_update": self.milliseconds[1],
        }


def simulate(entities: int, steps: int, seed: int) -> Tracks:
    """Draw tracks from the prior, and their reports; raises ValueError if there are no steps or no entities."""
    if steps < 1 or entities < 1:
        raise ValueError(f"steps, entities: expected at least 1 of each, got {steps}, {entities}")
    numbers = np.random.default_rng(seed)
    state = np.array(MEAN) + np.array(SPREAD) * numbers.normal(size=(entities, len(MEAN)))
    states, reports = [], []
    for step in range(steps):
        if step:
            state = advanced(state, numbers, SMALL_STEPS)
        distance = np.hypot(state[:, 0], state[:, 1]) + RANGE * numbers.normal(size=entities)
        angle = np.arctan2(state[:, 1], state[:, 0]) + BEARING * numbers.normal(size=entities)
        states.append(state)
        reports.append(np.stack([distance, wrapped(angle)], 1))
    return Tracks(np.stack(states), np.stack(reports))


def advanced(states: Array, numbers: np.random.Generator, small_steps: int) -> Array:
    """Draw the next state of each of `states` ``(P, 5)``; the turn rate is constant within a small step."""
    short = STEP / small_steps
    place, velocity = states[:, 0] + 1j * states[:, 1], states[:, 2] + 1j * states[:, 3]
    rate = states[:, 4].copy()
    for _ in range(small_steps):
        change = math.sqrt(WANDER * short) * numbers.normal(size=len(states))
        turn = (rate + change / 2) * short
        rate = rate + change
        push = numbers.normal(size=len(states)) + 1j * numbers.normal(size=len(states))
        push = math.sqrt(ACCELERATION * short) * push
        half = np.exp(0.5j * turn)
        # chord of the arc; np.sinc(x) is sin(πx) / πx
        place = place + short * np.sinc(turn / (2 * math.pi)) * half * velocity + short / 2 * push
        velocity = velocity * half * half + push
    return np.stack([place.real, place.imag, velocity.real, velocity.imag, rate], 1)


def observations(reports: Array) -> Observations:
    """Encode the reports ``(E, 2)`` of one step."""
    rows = [[Reading(sensor, report[[place]]) for place, sensor in enumerate(RADAR)] for report in reports]
    return encode(rows, len(MEAN))


def prior(entities: int) -> GaussianMixture:
    """Return the belief before the first report."""
    covariance = torch.diag(torch.tensor(SPREAD, dtype=torch.float64).square())
    mean = torch.tensor(MEAN, dtype=torch.float64).expand(entities, -1)
    return GaussianMixture.gaussian(mean, covariance.expand(entities, -1, -1))


def run(
    updater: Updater,
    steps: int,
    entities: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    watch: Callable[[GaussianMixture], None] = lambda belief: None,
) -> TurnRun:
    """Simulate and filter; `watch` is called with the beliefs after each step.

    Raises ValueError if there are no steps or no entities.
    """
    tracks, generator = simulate(entities, steps, seed), torch.Generator().manual_seed(seed)
    belief, interval = prior(entities), torch.full((entities,), STEP, dtype=torch.float64)
    loss = torch.zeros(entities, dtype=torch.float64)
    rows: list[tuple[Tensor, ...]] = []
    seconds = [0.0, 0.0]
    for step, (state, reports) in enumerate(zip(*tracks, strict=True)):
        begin = time.perf_counter()
        if step:
            belief, loss = move(MOTION, belief, interval, settings=updater.settings)
        between, seen = time.perf_counter(), observations(reports)
        update = updater.update(belief, seen)
        seconds = [seconds[0] + between - begin, seconds[1] + time.perf_counter() - between]
        belief, truth = update.posterior, torch.from_numpy(state)
        surprise = -belief.log_density(truth[:, None])[:, 0]
        size, count = update.sample_efficiency, belief.present.sum(1)
        rows.append((levels(belief, truth, generator), surprise, size, loss, count.double()))
        watch(belief)
        progress(step + 1, steps)
    each = (seconds[0] / (steps * entities) * 1e3, seconds[1] / (steps * entities) * 1e3)
    level, surprise, size, loss, count = (torch.stack(column) for column in zip(*rows, strict=True))
    return TurnRun(level, surprise, size, loss, count, each)


def thresholds(belief: GaussianMixture, generator: torch.Generator) -> Tensor:
    """Return the log density at the edge of each of `REGIONS`, ``(E, 3)``, from `DRAWS` draws."""
    ordered = belief.log_density(belief.normalised().sample(DRAWS, generator)).sort(1, descending=True).values
    places = torch.tensor([round(region * (DRAWS + 1)) - 1 for region in REGIONS])
    return ordered[:, places]
