"""The sets that an ablation runs on; each takes an updater and returns figures.

None of them served to choose a constant of the update: the seed of the hard problems is an argument, and the fleet's is
its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from beliefstream.inference.network.weights import load
from beliefstream.inference.update.settings import WORKER
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.scores import score
from research.bench import fleet_cost
from research.evaluation.adversarial.chains import CHAINS
from research.evaluation.adversarial.families import FAMILIES
from research.evaluation.adversarial.report import row
from research.evaluation.adversarial.run import Known, findings
from research.recordings.readers import read

Figures = dict[str, float]
"""Figures of a set by name; `seconds` are the processor's, without the oracle's."""
Set = Callable[[Updater], tuple[Figures, list[float]]]
"""Figures of an updater, and its losses problem by problem, nats."""


def updater() -> Updater:
    """An updater with the settings of a worker."""
    return Updater(load(), settings=WORKER)


@dataclass
class Hard:
    """Hard problems with exact posteriors, which are computed once.

    Attributes:
        families: names of families.
        count: problems of each family.
        seed: of the problems.
    """

    families: tuple[str, ...]
    count: int
    seed: int
    _known: Known = field(default_factory=dict)

    def __call__(self, updater: Updater) -> tuple[Figures, list[float]]:
        started = time.process_time()
        found = findings(updater, self.count, self.seed, self.families, alone_every=0, known=self._known)
        seconds, rows = time.process_time() - started, row(found)
        losses = [f.distance.value if f.decided else math.nan for f in found]
        names = ("mean", "worst", "dishonest", "false_alarms")
        return {name: float(rows[name] or 0) for name in names} | {"seconds": seconds}, losses


def hard_problems(count: int, seed: int) -> Hard:
    """Problems of every family of single updates."""
    return Hard(tuple(FAMILIES), count, seed)


def chains(count: int, seed: int) -> Hard:
    """Chains of many updates, `count` of each kind."""
    return Hard(tuple(CHAINS), 10 * count, seed)


@dataclass(frozen=True)
class Fleet:
    """The simulated fleet of `research.bench.fleet_cost`."""

    entities: int
    seed: int

    def __call__(self, updater: Updater) -> tuple[Figures, list[float]]:
        found = fleet_cost.measure(self.entities, 44, self.seed, updater)
        return {name: float(found[name]) for name in ("rmse", "nll", "poor", "seconds")}, found["losses"]


@dataclass(frozen=True)
class Recorded:
    """A recording, scored against its truth."""

    name: str

    def __call__(self, updater: Updater) -> tuple[Figures, list[float]]:
        recording, losses = read(self.name), list[float]()
        started = time.process_time()
        scored = score(recording, updater, take=lambda fused: losses.append(-fused.outcome.log_evidence))[0]
        figures = {"rmse": scored.rmse, "nll": scored.negative_log_likelihood}
        return {**figures, "seconds": time.process_time() - started}, losses


def paired(losses: list[float], usual: list[float]) -> tuple[float, float]:
    """Mean difference of two lists of losses, and its standard error; infinite and unknown ones are left out."""
    apart = np.array(losses) - np.array(usual)
    apart = apart[np.isfinite(apart)]
    return float(apart.mean()), float(apart.std() / math.sqrt(len(apart)))
