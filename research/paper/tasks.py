"""The published tasks by name: how each is measured, and what is trained for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from research.paper.form import trained
from research.paper.form.training import Plan
from research.paper.fusion.table import fusion_table
from research.paper.gaussian_process.table import gaussian_process_table
from research.paper.gaussian_process.task import GaussianProcess
from research.paper.quantum.table import quantum_table
from research.paper.quantum.task import Quantum, learn
from research.paper.report import Table
from research.paper.scalar import ScalarTask
from research.paper.variance.table import variance_table
from research.paper.variance.task import Variance
from research.paper.volatility.table import LARGEST, PARTICLES, volatility_table


@dataclass(frozen=True)
class Size:
    """How much is measured: problems of one parameter, series of filtering with their steps, and the largest filter."""

    count: int = 1000
    series: int = 12
    steps: int = 100
    particles: int = LARGEST  # of the last filter of task 5


Measure = Callable[[Size, int, Path], Table]
"""Measures a task, with a seed and the folder of trained weights."""

TASKS: dict[str, Measure] = {
    "variance": lambda size, seed, weights: variance_table(
        trained.load("variance", weights), size.count, seed
    ),
    "quantum": lambda size, seed, weights: quantum_table(trained.load("quantum", weights), size.count, seed),
    # with the library's own weights
    "fusion": lambda size, seed, _: fusion_table(size.series, size.steps, seed),
    "gaussian-process": lambda size, seed, weights: gaussian_process_table(
        trained.load("gaussian-process", weights), size.count, seed
    ),
    "volatility": lambda size, seed, _: volatility_table(
        size.series, size.steps, seed, (*PARTICLES, size.particles)
    ),
}
TRAINED: dict[str, tuple[Callable[[], ScalarTask], Plan]] = {
    "variance": (Variance, Plan("variance", steps=12_000)),
    "quantum": (lambda: Quantum(learn(), broad=True), Plan("quantum", steps=30_000)),
    "gaussian-process": (
        lambda: GaussianProcess(broad=True),
        Plan("gaussian-process", steps=300, counts=(10, 5, 10, 10, 10, 2, 10, 10, 20)),
    ),
}
"""What each set of weights is trained on."""
