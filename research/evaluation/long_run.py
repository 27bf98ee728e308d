"""Calibration of beliefs over a thousand steps of many simulated entities.

In each step an entity moves with constant velocity and white-noise acceleration in the plane. One or two of four
beacons measure its range, sometimes as an outlier. The initial state is drawn from the prior, so every belief must be
calibrated, not only the first one (see `research.evaluation.calibration`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.coverage import levels
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import ConstantVelocity
from beliefstream.inference.sensors import Reading, encode, range_to
from beliefstream.inference.update.updater import Updater
from research.evaluation.calibration import Coverage, Uniformity, coverage_over, histogram, ranks, uniformity

STEP = 0.1  # s
MOTION = ConstantVelocity((0, 1), (2, 3), 0.05)  # m²/s³
SPREAD = (40.0, 40.0, 1.0, 1.0)  # standard deviations of the prior, m and m/s
BEACONS = ((-100.0, -100.0), (100.0, -100.0), (100.0, 100.0), (-100.0, 100.0))  # m
DEVIATION, OUTLIERS, LONGEST = 1.0, 0.05, 400.0  # of a range: m, probability, m
COORDINATES = ("x", "y", "vx", "vy")
PERIODS = 10  # number of periods in the report of a run


class Period(NamedTuple):
    """Coverage over the steps from `first` to `last`, inclusive."""

    first: int
    last: int
    coverage: list[Coverage]  # with the standard error over entities, because steps are not independent


@dataclass(frozen=True)
class LongRun:
    """Beliefs after each of ``S`` steps of ``E`` entities, compared with the truth."""

    ranks: Tensor  # (S, E, 4), see `calibration`
    levels: Tensor  # (S, E)

    def periods(self, count: int = PERIODS) -> list[Period]:
        """Split the run into `count` parts, or as many as it has steps."""
        found, first = [], 1
        for part in self.levels.tensor_split(min(count, len(self.levels))):
            found.append(Period(first, first + len(part) - 1, coverage_over(part)))
            first += len(part)
        return found

    def last(self) -> list[Uniformity]:
        """Return the uniformity of the ranks of each coordinate and of the levels, over entities at the last step."""
        return [uniformity(values) for values in (*self.ranks[-1].T, self.levels[-1])]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a JSON value."""
        steps, entities = self.levels.shape
        return {
            "steps": steps,
            "entities": entities,
            "periods": [
                {"first": part.first, "last": part.last, "coverage": [row._asdict() for row in part.coverage]}
                for part in [*self.periods(), *self.periods(1)]
            ],
            "last": [row._asdict() for row in self.last()],
            "histograms": [
                histogram(values).int().tolist()
                for values in (*self.ranks.flatten(0, 1).T, self.levels.flatten())
            ],
        }


def run(
    updater: Updater,
    steps: int,
    entities: int,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LongRun:
    """Simulate and filter; raises ValueError if there are no steps or no entities."""
    if steps < 1 or entities < 1:
        raise ValueError(f"steps, entities: expected at least 1 of each, got {steps}, {entities}")
    generator, numbers = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    belief = _prior(entities)
    truth = belief.sample(1, generator)[:, 0]
    interval = torch.full((entities,), STEP, dtype=torch.float64)
    found: list[tuple[Tensor, Tensor]] = []
    for step in range(steps):
        if step:
            truth = MOTION.sample(truth[:, None], interval, generator=generator)[:, 0]
            belief = MOTION.predict(belief, interval)
        belief = updater.update(belief, _observe(truth, numbers)).posterior
        found.append((ranks(belief, truth), levels(belief, truth, generator)))
        progress(step + 1, steps)
    return LongRun(*(torch.stack(column) for column in zip(*found, strict=True)))


def _prior(entities: int) -> GaussianMixture:
    covariance = torch.diag(torch.tensor(SPREAD, dtype=torch.float64).square())
    mean = torch.zeros(entities, len(SPREAD), dtype=torch.float64)
    return GaussianMixture.gaussian(mean, covariance.expand(entities, -1, -1))


def _observe(truth: Tensor, numbers: np.random.Generator) -> Observations:
    """Draw one or two ranges of each entity at `truth` ``(E, 4)``."""
    readings = []
    for state in truth.numpy():
        chosen = numbers.choice(len(BEACONS), numbers.integers(1, 3), replace=False)
        readings.append([Reading(_SENSORS[beacon], _range(state, beacon, numbers)) for beacon in chosen])
    return encode(readings, len(SPREAD))


def _range(state: np.ndarray, beacon: int, numbers: np.random.Generator) -> np.ndarray:
    if numbers.uniform() < OUTLIERS:
        return numbers.uniform(0.0, LONGEST, 1)
    distance = np.hypot(*(state[:2] - BEACONS[beacon]))
    return np.array([distance + DEVIATION * numbers.normal()])


_SENSORS = [range_to([0, 1], len(SPREAD), beacon, DEVIATION, OUTLIERS, LONGEST) for beacon in BEACONS]
