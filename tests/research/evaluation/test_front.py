"""Speed against accuracy: who beats whom, what is measured, and that every plot is drawn."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer
from research.evaluation import front as module, plots
from research.evaluation.front import (
    BASELINES,
    THRESHOLDS,
    Point,
    front,
    posteriors_a_second,
    undominated,
)
from research.evaluation.methods import ComparedMethod, MethodAnswer, of_mixture

PNG = b"\x89PNG"


def point(speed: float, mean: float) -> Point:
    return Point("weights", f"{speed}, {mean}", speed, 10, mean, 0.1 * mean, mean)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    fast, slow, right = point(1000, 0.5), point(900, 0.6), point(10, 0.01)
    same_speed_better, broken = point(1000, 0.4), point(5000, math.inf)
    assert undominated([slow, right, fast, same_speed_better, broken]) == [same_speed_better, right]


def test_speed_is_processor_time_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return of_mixture(prior)

    monkeypatch.setattr(module, "_SECONDS", 0.1)
    assert posteriors_a_second(ComparedMethod("busy", busy), "mixed") == pytest.approx(512 / 0.05, rel=0.2)


def test_every_setting_of_every_network_is_a_point(
    monkeypatch: pytest.MonkeyPatch, small: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.0)
    monkeypatch.setattr(module, "BATCH", 8)
    points = front({"small": weights.load(str(small))}, 3, 1)
    ours = [found for found in points if found.group == "small"]
    assert [found.name for found in ours[:2]] == ["alone", "fast"]
    assert len(ours) == 2 + len(THRESHOLDS)
    assert {found.problems for found in ours} == {3}
    assert [found.problems for found in points if found.group == BASELINES] == [3, 1, 1]
    assert all(found.per_second > 0 and math.isfinite(found.mean) for found in points)
    assert plots.front(points, tmp_path / "new").read_bytes().startswith(PNG)


def test_names_in_the_picture_are_apart_and_inside() -> None:
    """With the speeds and distances of the picture in docs, in which names had collided and left the axes."""
    ours = [
        ("refined below 0.97", 730, 0.009),
        ("refined below 0.9", 900, 0.013),
        ("refined below 0.7", 1430, 0.026),
        ("checked", 1850, 0.059),
        ("fast", 4800, 0.063),
        ("alone", 5150, 0.076),
    ]
    theirs = [
        ("particle filter 10,000", 487, 1.0),
        ("particle filter 1,000", 4700, 2e4),
        ("iterated Gaussian-sum EKF", 9650, 16),
    ]
    points = [
        Point(group, name, speed, 2000, mean, 0.3 * mean, mean)
        for group, found in (("weights", ours), (BASELINES, theirs))
        for name, speed, mean in found
    ]
    figure, names = plots.front_figure(points)
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    figure.canvas.draw()
    boxes = [name.get_window_extent() for name in names]
    inside = axes.get_window_extent()
    assert {name.get_text() for name in names} == {point.name for point in points}
    for number, box in enumerate(boxes):
        assert inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
        assert not box.count_overlaps([*boxes[:number], legend.get_window_extent()])
    figure.clear()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    weights.save(DistributionTransformer(Configuration(width=8, layers=1, heads=2, hidden=8)), path, {})
    return path
