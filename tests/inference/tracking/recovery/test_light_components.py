"""What updates of a doubted belief drop is kept light, and found again when reports decide for it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.events import Belief, Event
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.tracking.recovery.light_components import BEGIN, MOST, heavy_part, joined
from beliefstream.inference.update.settings import UpdateSettings
from research.evaluation.adversarial.filters import Filtered, walk
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.sequences.exact import grid
from research.evaluation.adversarial.sequences.kinds import Run, sequences
from tests.inference.problems import updater

SEED = 31208


@functools.cache
def run(kind: str) -> tuple[Run, list[Outcome]]:
    drawn = sequences(kind, 1, SEED)[0]
    events = [Event("e", each.time, reading) for each in drawn.instants for reading in each.readings]
    return drawn, [outcome for _, outcome in replay(events, lambda _: drawn.model, updater())]


def divergence(exact: Filtered, outcome: Outcome) -> float:
    """KL(exact ‖ published), nats."""
    belief = heavy_part(outcome.belief)
    return exact.divergence(Mixture(belief.weights, belief.means, belief.covariances)).value


def test_what_moved_farther_than_it_drifts_is_found_when_the_exact_filter_finds_it() -> None:
    drawn, outcomes = run("drifting, moved in silence")
    (move,) = drawn.moves
    box, cell = grid(drawn)
    exact = list(walk(drawn.prior, drawn.rows, drawn.drift, drawn.times, box, cell))
    at_new = []
    for filtered in exact:
        points, share, _ = filtered.runs[0]
        old, new = (np.hypot(*(points - place[:, None])) for place in (move.old, move.new))
        at_new.append(share[new < old].sum() > 0.5)
    found = at_new.index(True, move.after)
    assert found > move.after + 3  # not with the first reports
    assert divergence(exact[found + 1], outcomes[found + 1]) < 0.5  # a report after the exact one
    for filtered, outcome in zip(exact[found + 2 :], outcomes[found + 2 :], strict=True):
        assert divergence(filtered, outcome) < 0.05


@pytest.mark.parametrize("kind", ["drifting, moved in silence", "drifting, carried away"])
def test_they_are_kept_only_in_doubt_and_all_weights_sum_to_one(kind: str) -> None:
    outcomes, begun = run(kind)[1], False
    for outcome in outcomes:
        weights, heavy = outcome.belief.weights, heavy_part(outcome.belief).weights
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert len(weights) - len(heavy) <= MOST
        begun |= outcome.belief.error.doubt > BEGIN
        assert begun or len(heavy) == len(weights)
    counts = [len(outcome.belief.weights) - len(heavy_part(outcome.belief).weights) for outcome in outcomes]
    assert (max(counts) > 10) == begun == (kind == "drifting, moved in silence")
    assert not any(counts[:20])  # before the move


@given(logs=st.lists(st.floats(-40, 0), min_size=1, max_size=12))
def test_the_heavy_part_lacks_what_is_light_and_nothing_else(logs: list[float]) -> None:
    weights = np.exp(logs) / np.exp(logs).sum()
    count = len(weights)
    belief = Belief(
        3.0,
        weights,
        np.arange(2.0 * count).reshape(count, 2),
        np.arange(1.0, count + 1)[:, None, None] * np.eye(2),
    )
    kept = weights / weights.max() >= 1e-5
    part = heavy_part(belief)
    np.testing.assert_allclose(part.weights, weights[kept] / weights[kept].sum(), rtol=1e-12)
    np.testing.assert_array_equal(part.means, belief.means[kept])
    np.testing.assert_array_equal(part.covariances, belief.covariances[kept])
    assert (part.time, part.error) == (belief.time, belief.error)


def test_an_answer_that_is_not_a_number_stays_and_leaves_the_others_alone() -> None:
    means, covariances = np.zeros((1, 2)), np.eye(2)[None]
    doubted = AccumulatedError(doubt=10.0)
    good, bad = (
        Outcome(Belief(0.0, np.array([weight]), means, covariances, error=doubted), 1.0, 0.0, 1.0, "kalman")
        for weight in (1.0, np.nan)
    )
    one = GaussianMixture.gaussian(torch.full((1, 2), 9.0).double(), torch.eye(2).double()[None])
    lacked = one.scaled_by(-20.0)
    (alone,) = joined([good], lacked, UpdateSettings())
    together, left = joined([good, bad], concatenate([lacked, lacked]), UpdateSettings())
    assert left is bad
    assert len(alone.belief.weights) == 2
    np.testing.assert_array_equal(together.belief.weights, alone.belief.weights)
