"""Likelihoods that ship, learned from simulators: `fuse` and `replay` give the posterior of a grid by the exact law."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy.typing import NDArray

from beliefstream.inference.likelihood import example_problems
from beliefstream.inference.tracking.events import Belief
from beliefstream.schemas import Posterior, parse
from research.evaluation.learned.sources import KNOWN, MEAN, SPREAD, Grid, Scene
from tests.streams.cli.conftest import Run

PROBLEMS = "beliefstream.inference.likelihood.example_problems"
COUNTER = {
    "sensor": "counter",
    "kind": "learned",
    "problem": f"{PROBLEMS}:RadiationSource",
    "weights": "RadiationSource.safetensors",
    "parameters": {"x": "x", "y": "y", "strength": "log_strength"},
    "value": ["count", "counter_x", "counter_y"],
    "context": KNOWN,
}
DETECTOR = {
    "sensor": "detector",
    "kind": "learned",
    "problem": f"{PROBLEMS}:ProximityDetector",
    "weights": "ProximityDetector.safetensors",
    "parameters": {"x": "x", "y": "y"},
    "value": ["detected", "detector_x", "detector_y"],
    "context": {"reach": 4, "hit": 0.9, "false_alarm": 0.05},
}
REPORTS = [(1, 2.0, 1.0), (0, -3.0, 0.0), (1, 3.0, -2.0), (0, 0.0, 6.0)]
DEVIATION = 5.0  # of the prior of a detected entity
FOLDER = Path(example_problems.__file__).parent


def model(names: list[str], mean: Any, deviations: Any) -> dict[str, Any]:
    prior = {"weights": [1], "means": [list(mean)], "covariances": [np.diag(np.square(deviations)).tolist()]}
    return {
        "entity": "*",
        "name": "still",
        "coordinates": [{"name": name, "unit": "m"} for name in names],
        "motion": {"kind": "random_walk", "spectral_density": 0},
        "prior": prior,
    }


def observed(sensor: str, value: Any, time: float) -> dict[str, Any]:
    return {"entity": "it", "sensor": sensor, "time": time, "value": list(value)}


def fused(run: Run, folder: Path, lines: list[dict[str, Any]]) -> Posterior:
    """The last posterior."""
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err
    return parse(Posterior, result.out.splitlines()[-1].encode())


@pytest.mark.parametrize("seed", [1, 3])
def test_a_source_is_found_by_the_learned_likelihood_of_counts(run: Run, tmp_path: Path, seed: int) -> None:
    scene = Scene.drawn(np.random.default_rng(seed), 4)
    lines = [COUNTER, model(["x", "y", "log_strength"], MEAN, SPREAD)]
    for number, (count, place) in enumerate(zip(scene.counts, scene.places.tolist(), strict=True)):
        lines.append(observed("counter", [count, *place], float(number)))
    last = fused(run, tmp_path, lines)
    assert last.quality.likelihood == "learned"
    error, mixture = last.quality.accumulated_error, last.mixture
    belief = Belief(
        last.time, np.array(mixture.weights), np.array(mixture.means), np.array(mixture.covariances)
    )
    divergence = Grid.of(scene).divergence(belief.mixture().log_density)
    assert error is not None and -0.01 < divergence < error + 0.1


def detected_exactly() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a grid of the plane ``(P, 2)``, and the log density of the exact posterior there."""
    axis = np.linspace(-18, 18, 301)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    target = scipy.stats.norm(0, DEVIATION).logpdf(points).sum(1)
    for seen, *place in REPORTS:
        near = np.exp(-np.square(points - place).sum(1) / (2 * 4**2))
        target += scipy.stats.bernoulli(0.05 + 0.85 * near).logpmf(seen)
    return points, target - scipy.special.logsumexp(target) - 2 * math.log(axis[1] - axis[0])


def test_detections_and_misses_have_the_posterior_of_a_grid(run: Run, tmp_path: Path) -> None:
    definitions = [DETECTOR, model(["x", "y"], [0, 0], [DEVIATION, DEVIATION])]
    reports = [observed("detector", each, float(number)) for number, each in enumerate(REPORTS)]
    last = fused(run, tmp_path, [*definitions, *reports])
    points, target = detected_exactly()
    mixture = last.mixture
    logs = [
        math.log(weight) + scipy.stats.multivariate_normal(mean, covariance).logpdf(points)
        for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    cell = (points[1, 1] - points[0, 1]) ** 2
    divergence = float((np.exp(target) * cell * (target - scipy.special.logsumexp(logs, 0))).sum())
    assert last.quality.accumulated_error is not None
    assert -0.001 < divergence < min(0.1, last.quality.accumulated_error + 0.02)


def test_a_recording_of_detections_is_replayed_and_scored(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sensors.json").write_text(json.dumps(DETECTOR))
    (tmp_path / "models.json").write_text(json.dumps(model(["x", "y"], [0, 0], [DEVIATION, DEVIATION])))
    with (tmp_path / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "entity", "seen", "x", "y"])
        rows.writerows([number, "it", *each] for number, each in enumerate(REPORTS))
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "entity", "x", "y"])
        rows.writerows([number, "it", 2.5, -0.5] for number in range(len(REPORTS)))
    options = ("--sensors", "sensors.json", "--models", "models.json", "--map", "value=seen,x,y")
    scored = ("--set", "sensor=detector", "--truth", "truth.csv", "--score", "--particles", "2000")
    result = run("replay", "log.csv", *options, *scored, "--json", "--output", "out.csv")
    assert result.status == 0, result.err
    ours = json.loads(result.out.splitlines()[0])
    assert ours["method"] == "Beliefstream" and ours["cases"] == len(REPORTS)
    with (tmp_path / "out.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    points, target = detected_exactly()
    shares = scipy.special.softmax(target)
    mean = shares @ points
    deviation = np.sqrt(shares @ np.square(points - mean))
    for name, exact, width in zip("xy", mean, deviation, strict=True):
        assert float(last[f"{name}_mean"]) == pytest.approx(exact, abs=0.2 * width)
        assert float(last[f"{name}_standard_deviation"]) == pytest.approx(width, rel=0.2)


@pytest.mark.parametrize("name", ["RadiationSource", "ProximityDetector"])
def test_shipped_weights_are_small_and_have_a_card(name: str) -> None:
    assert (FOLDER / f"{name}.safetensors").stat().st_size < 50_000
    card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert f"beliefstream train-likelihood {PROBLEMS}:{name}" in card and "| seed | 0 |" in card
