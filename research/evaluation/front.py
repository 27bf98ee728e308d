"""Measures speed against accuracy, for each setting of the check and each set of weights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.settings import FAST
from beliefstream.inference.update.updater import UpdateSettings
from research.evaluation.methods import ComparedMethod, baselines, network_alone, updated
from research.evaluation.problems import held_out_problems
from research.evaluation.progress import Progress, silent
from research.evaluation.report import ALL, compare

THRESHOLDS = (0.0, 0.7, 0.9, 0.97)  # sample efficiencies below which answers are refined
DIMENSION = 2
BATCH = 512
BASELINES = "baselines"
_SECONDS = 1.0  # shortest processor time over which a speed is measured
_FEW = 64  # number of problems for the particle filters


class Point(NamedTuple):
    """Speed of one method in posteriors per second and core, and its divergence from exact posteriors in nats."""

    group: str  # name of the weights, or `BASELINES`
    name: str
    per_second: float
    problems: int
    mean: float
    standard_error: float
    median: float


def front(
    networks: Mapping[str, DistributionTransformer],
    count: int,
    costly_count: int | None = None,
    family: str = "mixed",
    components: int = 8,
    cache: Path | None = None,
    progress: Progress = silent,
) -> list[Point]:
    """Measure each network alone, fast, checked, and refined below each of `THRESHOLDS`, and the classical filters.

    "fast" is checked, but neither searched nor refined; "checked" is not refined either.

    The speed is for batches of 512 problems in the plane, in processor time of this process, so set one thread. For
    particle filters it excludes the density. See `compare` for the other arguments.
    """
    groups = {name: _settings(network, components) for name, network in networks.items()}
    groups[BASELINES] = [method for method in baselines() if method.name not in ("EKF", "UKF")]
    points = []
    for group, methods in groups.items():
        compared = compare(methods, DIMENSION, count, costly_count, family, cache=cache, progress=progress)
        rows = {row.method: row for row in compared.rows([ALL])}
        for method in methods:
            row, speed = rows[method.name], posteriors_a_second(method, family)
            points.append(
                Point(group, method.name, speed, row.problems, row.mean, row.standard_error, row.median)
            )
    return points


def _settings(network: DistributionTransformer, components: int) -> list[ComparedMethod]:
    settings = UpdateSettings(components=components)
    fast = updated(network, replace(FAST, components=components), "fast")
    refined = [
        updated(
            network,
            replace(settings, refine_below=threshold),
            f"refined below {threshold:g}" if threshold else "checked",
        )
        for threshold in THRESHOLDS
    ]
    return [replace(network_alone(network, components), name="alone"), fast, *refined]


def posteriors_a_second(method: ComparedMethod, family: str) -> float:
    """Return the posteriors per second of one core, on the first batch of held-out problems, after a warm-up call."""
    problems = held_out_problems(family, DIMENSION, _FEW if method.costly else BATCH)
    method.respond(problems.prior, problems.observations, 0)
    calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < _SECONDS or calls == 0:
        method.respond(problems.prior, problems.observations, calls)
        calls += 1
    return calls * len(problems.state) / spent


def undominated(points: list[Point]) -> list[Point]:
    """Return the points that no other exceeds in both speed and accuracy, fastest first."""
    best, found = float("inf"), []
    for point in sorted(points, key=lambda point: (-point.per_second, point.mean)):
        if point.mean < best:
            best = point.mean
            found.append(point)
    return found
