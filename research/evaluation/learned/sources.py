"""A radiation source found by counters: posteriors beside a grid, a particle filter and a Kalman filter.

    python -m research.evaluation.learned.sources --scenes 20

A source stands at an unknown place with an unknown strength. A counter measures from one random place after another;
the counts are Poisson (`inference.likelihood.example_problems.RadiationSource`). The exact posterior is computed on a
grid that zooms in on its mass. Each method is measured by its divergence KL(exact ‖ method) after all counts.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.example_problems import RadiationSource
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Reading, encode, of_problem
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.scores.filters.regularised import RegularisedParticleFilter
from research.evaluation.baselines.moment_matched import MomentMatchedFilter

Array = NDArray[np.float64]
MEAN, SPREAD = (0.0, 0.0, 6.0), (8.0, 8.0, 0.7)  # of the prior: metres, and the logarithm of the strength
AREA = 12.0  # counters stand within so many metres of the origin
KNOWN = {"height": 1.0, "background": 5.0, "efficiency": 1.0, "exposure": 10.0}
SENSOR = of_problem(
    RadiationSource(),
    {"x": 0, "y": 1, "strength": 2},
    3,
    ["count", "counter_x", "counter_y"],
    KNOWN,
)
CELLS, LAST_CELLS, ZOOMS = 48, 72, 5  # of the grid, along each axis
DEEP = 25.0  # nats below the peak that are kept
PARTICLES = 10_000
DRAWN = 4_000  # states of the grid at which the kernel density of the particles is computed


@dataclass(frozen=True)
class Scene:
    """A source ``(x, y, log strength)``, the places of the counter ``(T, 2)`` and its counts ``(T,)``."""

    source: Array
    places: Array
    counts: Array

    @classmethod
    def drawn(cls, generator: np.random.Generator, counts: int) -> Scene:
        """Draw a source from the prior, places, and counts."""
        source = generator.normal(MEAN, SPREAD)
        places = generator.uniform(-AREA, AREA, (counts, 2))
        return cls(source, places, generator.poisson(expected(source[None], places)[0]).astype(float))

    def readings(self) -> list[Reading]:
        return [
            Reading(SENSOR, np.array([count, *place]))
            for count, place in zip(self.counts, self.places, strict=True)
        ]


def expected(states: Array, places: Array) -> Array:
    """Expected counts of states ``(P, 3)`` at places ``(T, 2)``; ``(P, T)``."""
    squared = np.square(states[:, None, :2] - places).sum(-1) + KNOWN["height"] ** 2
    rate = KNOWN["background"] + KNOWN["efficiency"] * np.exp(states[:, None, 2]) / squared
    found: Array = KNOWN["exposure"] * rate
    return found


@dataclass(frozen=True)
class Grid:
    """The exact posterior: states ``(P, 3)``, the share of each cell, and the log density there."""

    states: Array
    share: Array
    log_density: Array
    log_evidence: float

    @classmethod
    def of(cls, scene: Scene) -> Grid:
        """Solve a scene; zooms in where the posterior is within `DEEP` nats of its peak."""
        middle, reach = np.array(MEAN), 5 * np.array(SPREAD)
        low, high = middle - reach, middle + reach
        for _ in range(ZOOMS):
            states, _ = _cells(low, high, CELLS)
            target, width = _log_target(scene, states), (high - low) / CELLS
            near = states[target > target.max() - DEEP]
            low, high = near.min(0) - width, near.max(0) + width
        states, volume = _cells(low, high, LAST_CELLS)
        target = _log_target(scene, states)
        evidence = float(np.logaddexp.reduce(target)) + volume
        return cls(states, np.exp(target - evidence + volume), target - evidence, evidence)

    def divergence(self, log_density: Callable[[Tensor], Tensor], most: int | None = None) -> float:
        """KL(exact ‖ answer), for an answer with `log_density` of states ``(1, P, 3)``.

        With `most`, on so many states, drawn in proportion to their share; else on all that count.
        """
        if most is None:
            chosen = np.flatnonzero(self.share > 1e-9)
            share = self.share[chosen]
        else:
            ticks = (np.arange(most) + 0.5) / most * self.share.sum()
            chosen = np.searchsorted(self.share.cumsum(), ticks)
            share = np.full(most, 1 / most)
        found = log_density(torch.from_numpy(self.states[chosen])[None])[0].numpy()
        return float((share * (self.log_density[chosen] - found)).sum())


def _cells(low: Array, high: Array, count: int) -> tuple[Array, float]:
    """Centres of the cells of a box, and the log volume of one."""
    width = (high - low) / count
    axes = [low[i] + (np.arange(count) + 0.5) * width[i] for i in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), float(np.log(width).sum())


def _log_target(scene: Scene, states: Array) -> Array:
    """Log of the prior times the likelihood."""
    offset = (states - np.array(MEAN)) / np.array(SPREAD)
    total = -0.5 * np.square(offset).sum(1) - np.log(SPREAD).sum() - 1.5 * math.log(2 * math.pi)
    for place, count in zip(scene.places, scene.counts, strict=True):
        mean = expected(states, place[None])[:, 0]
        total = total + count * np.log(mean) - mean - math.lgamma(count + 1)
    found: Array = total
    return found


def prior() -> GaussianMixture:
    covariance = torch.tensor(SPREAD, dtype=torch.float64).square().diag()
    return GaussianMixture.gaussian(torch.tensor([MEAN], dtype=torch.float64), covariance[None])


def transformer(scene: Scene, updater: Updater) -> tuple[GaussianMixture, float]:
    """Update with one count after another; the last belief, and the sum of the divergences that the updates report."""
    belief, divergence = prior(), 0.0
    for reading in scene.readings():
        update = updater.update(belief, encode([[reading]], 3))
        belief, divergence = update.posterior, divergence + float(update.lost)
    return belief, divergence


def particles(scene: Scene, count: int, seed: int) -> RegularisedParticleFilter:
    """A regularised particle filter after all counts."""
    found = RegularisedParticleFilter(prior(), count, torch.Generator().manual_seed(seed))
    for reading in scene.readings():
        found.update(encode([[reading]], 3))
        found.resample()
    return found


def kalman(scene: Scene) -> MomentMatchedFilter:
    """A moment-matched extended Kalman filter after all counts."""
    found = MomentMatchedFilter(torch.tensor(MEAN), torch.tensor(SPREAD).square().diag())
    for place, count in zip(torch.from_numpy(scene.places), scene.counts, strict=True):
        context = {name: torch.tensor(number, dtype=torch.float64) for name, number in KNOWN.items()}
        context |= {"counter_x": place[0], "counter_y": place[1]}

        def mean(state: Tensor, context: dict[str, Tensor] = context) -> Tensor:
            parameters = {"x": state[0], "y": state[1], "strength": state[2].exp()}
            return RadiationSource().mean(parameters, context)

        found.update(mean, float(count))
    return found


def compare(scenes: int, counts: int, seed: int = 0) -> dict[str, list[float]]:
    """Divergence of each method in each scene, and seconds of the processor for all its counts."""
    generator, updater = np.random.default_rng(seed), Updater(weights.load())
    rows: dict[str, list[float]] = {}
    for number in range(scenes):
        scene = Scene.drawn(generator, counts)
        grid = Grid.of(scene)
        start = time.process_time()
        belief, reported = transformer(scene, updater)
        middle = time.process_time()
        cloud = particles(scene, PARTICLES, number)
        end = time.process_time()
        row = {
            "transformer": grid.divergence(belief.log_density),
            "as reported": reported,
            "particles": grid.divergence(cloud.density().log_density, DRAWN),
            "kalman": grid.divergence(kalman(scene).posterior().log_density),
            "transformer, seconds": middle - start,
            "particles, seconds": end - middle,
        }
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    return rows


def main() -> None:
    """Print the mean, the median and the largest of each figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--counts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print("| nats, KL(exact ‖ method) | mean | median | worst |\n|---|---|---|---|")
    for name, values in compare(chosen.scenes, chosen.counts, chosen.seed).items():
        print(f"| {name} | {np.mean(values):.3g} | {np.median(values):.3g} | {max(values):.3g} |")


if __name__ == "__main__":
    main()
