"""The exact posteriors of a run against the Kalman filter, and against a grid of points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.sensors import position
from beliefstream.inference.sensors.readings import Reading
from research.evaluation.adversarial.filters import walk
from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import gaussian
from research.evaluation.adversarial.sequences.exact import grid, solved
from research.evaluation.adversarial.sequences.kinds import Move, Run, sequences, timed
from tests.research.evaluation.adversarial.closed_forms import linear_update

OLD, NEW = np.array([0.2, -0.1]), np.array([1.0, 0.5])
NOISE = 0.1


def linear_run(drift: float = 0.0) -> Run:
    """Five positions of one place and twelve of another, without outliers."""
    sensor = position((0, 1), 2, NOISE**2 * np.eye(2))
    rows = [[Reading(sensor, at + 0.02 * math.sin(7 * i))] for i, at in enumerate([OLD] * 5 + [NEW] * 12)]
    times = [float(i if i < 5 else i + 3) for i in range(17)]
    return Run(gaussian(np.zeros(2), 0.7), timed(rows, times), (OLD, NEW), NOISE, (Move(5, OLD, NEW),), drift)


def kalman(run: Run) -> list[Mixture]:
    """The belief after each instant."""
    now, found, before = run.prior, [], run.times[0]
    for time, (reading,) in zip(run.times, run.rows, strict=True):
        spread = run.drift**2 * (time - before) * np.eye(2)
        now = Mixture(now.weights, now.means, now.covariances + spread)
        now, _ = linear_update(now, reading.sensor.matrix, reading.sensor.covariance, reading.value)
        found.append(now)
        before = time
    return found


def nearer(at: Array) -> bool:
    return bool(np.linalg.norm(at - NEW) < np.linalg.norm(at - OLD))


@pytest.mark.parametrize("drift", [0.0, 0.05])
def test_every_checkpoint_is_the_kalman_filter(drift: float) -> None:
    run = linear_run(drift)
    closed, solution = kalman(run), solved(run, np.random.default_rng(1))
    for after, exact in solution.checkpoints:
        distance = exact.divergence(closed[after - 1])
        assert abs(distance.value) < 0.02
        assert distance.error < 0.03
    # a Gaussian has more than half of its mass beyond the middle where its mean is
    expected = next(i for i, belief in enumerate(closed, 1) if i > 5 and nearer(belief.means[0]))
    assert solution.moved == (expected,)
    places = [after for after, _ in solution.checkpoints]
    assert {5, 6, expected - 1, expected, expected + 3, 12, 17} <= set(places)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("moved", 0),
        ("two camps at one instant", 0),
        ("bearings, moved", 1),
        ("positions, moved", 17),  # without a bound for each of many reports, these three lose a place
        ("wrong prior", 19),
        ("a scan at one instant", 12),
    ],
)
def test_no_place_is_missed(kind: str, number: int) -> None:
    run = sequences(kind, 10 * number + 10, 31209)[number]
    for after, exact in solved(run, np.random.default_rng(1)).checkpoints:
        assert exact.error < 0.05, after


@pytest.mark.parametrize("kind", ["drifting, carried away", "drifting, moved in silence"])
def test_half_the_cells_of_a_drifting_entity_are_as_exact(kind: str) -> None:
    run = sequences(kind, 1, 12)[0]
    box, cell = grid(run)
    pairs = zip(
        *(walk(run.prior, run.rows, run.drift, run.times, box, c) for c in (cell, cell / 2)), strict=True
    )
    for coarse, fine in pairs:
        assert coarse.log_evidence == pytest.approx(fine.log_evidence, abs=0.003)
        points, share, _ = coarse.runs[0]
        mean = points @ share
        around = points - mean[:, None]
        answer = Mixture(np.ones(1), mean[None], 2 * ((share * around) @ around.T)[None])
        assert coarse.divergence(answer).value == pytest.approx(fine.divergence(answer).value, abs=0.005)
