"""What the kinds of runs draw."""

from __future__ import annotations

import numpy as np
import pytest

from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.mixtures import positive_definite
from research.evaluation.adversarial.run import families_of
from research.evaluation.adversarial.sequences.kinds import KINDS, Run, sequences

EVERY = sorted(KINDS)


def values(run: Run) -> list[list[float]]:
    return [reading.value.tolist() for row in run.rows for reading in row]


@pytest.mark.parametrize("kind", EVERY)
def test_a_run_is_the_same_in_a_longer_list(kind: str) -> None:
    (one,), many = sequences(kind, 1, 3), sequences(kind, 21, 3)
    assert len(many) == 3
    assert values(one) == values(many[0])
    assert values(one) != values(many[1])
    assert values(one) != values(sequences(kind, 1, 4)[0])


@pytest.mark.parametrize("kind", EVERY)
def test_runs_are_whole(kind: str) -> None:
    for run in sequences(kind, 40, 5):
        assert run.prior.weights.sum() == pytest.approx(1)
        assert positive_definite(run.prior.covariances)
        assert all(earlier < later for earlier, later in zip(run.times, run.times[1:], strict=False))
        assert all(np.isfinite(value).all() for value in values(run))
        assert all(0 <= move.after < len(run.instants) for move in run.moves)


def residual(run: Run, at: Array, rows: slice) -> float:
    """Median distance between reported ranges and those of a place, metres."""
    readings = [reading for row in run.rows[rows] for reading in row]
    return float(np.median([abs(r.value[0] - np.linalg.norm(at - r.sensor.origin)) for r in readings]))


@pytest.mark.parametrize(
    "kind", ["moved", "there and back", "light component", "mirror images confirmed", "wrong prior"]
)
def test_after_a_move_reports_are_of_the_new_place(kind: str) -> None:
    for run in sequences(kind, 100, 6):
        ends = [move.after for move in run.moves[1:]] + [len(run.instants)]
        for move, end in zip(run.moves, ends, strict=True):
            after = slice(move.after, end)
            nearer = residual(run, move.new, after) < residual(run, move.old, after)
            assert nearer or np.linalg.norm(move.new - move.old) < 5 * run.precision


def test_mirror_images_are_told_apart_by_late_reports_only() -> None:
    for kind, late in (("light component", 10), ("mirror images confirmed", 24)):
        for run in sequences(kind, 50, 7):
            true, image = run.places
            for row, reading in enumerate(reading for (reading,) in run.rows):
                apart = np.linalg.norm(true - reading.sensor.origin) - np.linalg.norm(
                    image - reading.sensor.origin
                )
                assert (abs(apart) > 1e-6) == (row >= late)


def test_a_share_of_the_runs_has_no_outliers() -> None:
    for kind in ("light component", "wrong prior", "a scan at one instant"):
        probabilities = {run.rows[0][0].sensor.outlier_probability == 0 for run in sequences(kind, 100, 8)}
        assert probabilities == {True, False}


def test_a_silent_entity_is_farther_away_than_its_drift_explains() -> None:
    for run in sequences("drifting, moved in silence", 100, 9):
        pause = max(np.diff(run.times))
        (move,) = run.moves
        assert 60 <= pause <= 300
        assert np.linalg.norm(move.new - move.old) > 4.99 * run.drift * np.sqrt(pause)


def test_one_name_stands_for_all_kinds() -> None:
    assert families_of(["planar", "sequences", "moved"]) == ["planar", *KINDS]
    with pytest.raises(ValueError, match="nonsense"):
        sequences("nonsense", 1, 0)
