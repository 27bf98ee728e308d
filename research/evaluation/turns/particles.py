"""Exact filter for the tracks of `turns`, an independent particle filter with many particles.

The share of true states in the 90 % regions has the error of a few hundred independent draws. The mass of the exact
posterior in those regions has a much smaller error: a dozen tracks give it within a hundredth.

The initial positions are drawn from the first report. In the first steps, in which speed and turn rate are still
uncertain, there are `FIRST` times as many particles. Particles are resampled systematically in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.mixtures.coverage import REGIONS
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.likelihood import wrapped
from research.evaluation.turns.run import (
    BEARING,
    MEAN,
    RANGE,
    SPREAD,
    Array,
    advanced,
    run,
    simulate,
    thresholds,
)
from research.resampling import systematic

FIRST, FIRST_STEPS = 8, 3
KEPT = 4000  # number of particles that represent the exact posterior in comparisons
SMALL_STEPS = 4


class Held(NamedTuple):
    """Beliefs compared with the exact posterior, over all steps and tracks."""

    mass: list[float]  # mass of the exact posterior inside each of the `REGIONS` of the belief
    standard_error: list[float]  # of the mass, over tracks
    cross_entropy: float  # E[−log belief] under the exact posterior, nats: lower is better

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a JSON value."""
        return {"regions": list(REGIONS), **self._asdict()}


def particles(reports: Array, count: int, seed: int) -> Array:
    """Draw from the exact posterior of one track after each step, ``(S, KEPT, 5)``, given its `reports` ``(S, 2)``."""
    numbers, kept = np.random.default_rng(seed), []
    for step, report in enumerate(reports):
        many = count * FIRST if step < FIRST_STEPS else count
        if step == 0:
            points, log_weights = _first(report, many, numbers)
        else:
            points = advanced(points, numbers, SMALL_STEPS)
            log_weights = _log_likelihood(points, report)
        points = points[systematic(np.exp(log_weights - log_weights.max()), many, numbers)]
        kept.append(points[numbers.choice(many, KEPT, replace=False)])
    return np.stack(kept)


def _first(report: Array, count: int, numbers: np.random.Generator) -> tuple[Array, Array]:
    """Draw states that fit the first report, and return them with their weights by the prior."""
    points = np.array(MEAN) + np.array(SPREAD) * numbers.normal(size=(count, len(MEAN)))
    distance = report[0] + RANGE * numbers.normal(size=count)
    angle = report[1] + BEARING * numbers.normal(size=count)
    points[:, 0], points[:, 1] = distance * np.cos(angle), distance * np.sin(angle)
    offset = (points[:, :2] - np.array(MEAN[:2])) / np.array(SPREAD[:2])
    # the area of a cell of range and bearing grows with the range; a negative range is impossible
    area = np.where(distance > 0, distance, 1e-300)
    return points, np.log(area) - 0.5 * (offset**2).sum(1)


def _log_likelihood(points: Array, report: Array) -> Array:
    distance = (report[0] - np.hypot(points[:, 0], points[:, 1])) / RANGE
    angle = wrapped(report[1] - np.arctan2(points[:, 1], points[:, 0])) / BEARING
    return np.asarray(-0.5 * (distance**2 + angle**2))


def hold(
    updater: Updater,
    count: int,
    steps: int,
    entities: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Held:
    """Compare beliefs on the tracks of `turns.run` with exact posteriors of `count` particles per track.

    `progress` is called with the number of tracks whose exact posteriors are done, and the total. Raises ValueError if
    there are no steps or no entities, or fewer than `KEPT` particles.
    """
    if count < KEPT:
        raise ValueError(f"count: expected at least {KEPT} particles, got {count}")
    reports, several = simulate(entities, steps, seed).reports, []
    for track in range(entities):
        several.append(particles(reports[:, track], count, seed + 1 + track))
        progress(track + 1, entities)
    exact = torch.from_numpy(np.stack(several, 1))  # (S, E, KEPT, 5)
    generator = torch.Generator().manual_seed(seed)
    mass: list[Tensor] = []
    entropy: list[Tensor] = []

    def watch(belief: GaussianMixture) -> None:
        density = belief.log_density(exact[len(mass)])
        edges = thresholds(belief, generator)
        mass.append((density[..., None] > edges[:, None]).double().mean(1))
        entropy.append(-density.mean(1))

    run(updater, steps, entities, seed, watch=watch)
    by_track = torch.stack(mass).mean(0)  # (E, 3)
    error = by_track.std(0) / entities**0.5 if entities > 1 else torch.zeros(len(REGIONS))
    return Held(by_track.mean(0).tolist(), error.tolist(), float(torch.stack(entropy).mean()))
