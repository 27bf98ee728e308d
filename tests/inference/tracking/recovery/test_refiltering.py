"""Moving entities after a silence: their reports are filtered again from a prior in parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from beliefstream.inference.likelihood.native_observations import smoothed
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors import range_to
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.tracking.events import Belief, Event, StateModel
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.tracking.recovery import refiltering
from beliefstream.inference.tracking.recovery.light_components import heavy_part
from research.evaluation.adversarial.filters import walk
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.sequences.exact import grid
from research.evaluation.adversarial.sequences.kinds import sequences
from tests.inference.problems import updater

ANCHORS = ((-4.0, -3.0), (5.0, -4.0), (4.0, 5.0), (-5.0, 4.0))
OLD, NEW = np.array([0.5, -0.5]), np.array([3.3, 1.2])


def test_the_parts_of_a_belief_add_up_to_it() -> None:
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(1, 2, 4, 4, generator=generator, dtype=torch.float64)
    whole = GaussianMixture(
        torch.tensor([[0.7, 0.3]], dtype=torch.float64).log(),
        torch.randn(1, 2, 4, generator=generator, dtype=torch.float64),
        roots @ roots.mT + 0.1 * torch.eye(4, dtype=torch.float64),
    )
    parts, narrow = refiltering._lattice(whole, [2, 0])
    points = whole.sample(2000, generator)
    difference = parts.log_density(points) - whole.log_density(points)
    assert float(difference.abs().max()) < 0.0125  # 2 exp(-2 π² s² (1 - s²) / h²) for each of two coordinates
    assert torch.equal(narrow.means, parts.means[..., [2, 0]])


@pytest.mark.parametrize("number", [0, 3, 10])
def test_the_exact_belief_is_followed_from_one_place_to_another(number: int) -> None:
    """Without the parts, each of these runs is more than a hundred nats off at some report."""
    drawn = sequences("drifting, moved in silence", 120, 31211)[number]
    events = [Event("e", each.time, reading) for each in drawn.instants for reading in each.readings]
    outcomes = [outcome for _, outcome in replay(events, lambda _: drawn.model, updater())]
    box, cell = grid(drawn)
    for exact, outcome in zip(
        walk(drawn.prior, drawn.rows, drawn.drift, drawn.times, box, cell), outcomes, strict=True
    ):
        belief = heavy_part(outcome.belief)
        apart = exact.divergence(Mixture(belief.weights, belief.means, belief.covariances)).value
        assert apart < max(0.5, outcome.accumulated_error)


def ranges(outliers: float = 0.05) -> list[Sensor]:
    return [range_to([0, 1], 2, place, 0.1, outliers, 20.0) for place in ANCHORS]


def reports(place: np.ndarray, start: float, count: int) -> list[Event]:
    """Exact ranges of the anchors in turn, one a second."""
    values = [float(np.linalg.norm(place - ANCHORS[n % 4])) for n in range(count)]
    return [
        Event("e", start + n, Reading(ranges()[n % 4], np.array([value]))) for n, value in enumerate(values)
    ]


def final(
    events: list[Event], motion: RandomWalk, monkeypatch: pytest.MonkeyPatch, expires_after: float = math.inf
) -> tuple[Outcome, int]:
    """The last outcome, and how many were from a prior in parts."""
    model = StateModel(
        motion, Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None]), expires_after=expires_after
    )
    found: list[Outcome | None] = []
    joined = refiltering._joined

    def noting(*given: Any) -> Outcome | None:
        found.append(joined(*given))
        return found[-1]

    monkeypatch.setattr(refiltering, "_joined", noting)
    outcomes = [outcome for _, outcome in replay(events, lambda _: model, updater())]
    return outcomes[-1], sum(outcome is not None for outcome in found)


def test_a_place_far_along_the_first_ring_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [*reports(OLD, 0.0, 12), *reports(NEW, 200.0, 6)]
    outcome, count = final(events, RandomWalk((0.0016, 0.0016)), monkeypatch)
    assert count
    assert np.linalg.norm(outcome.belief.weights @ outcome.belief.means - NEW) < 0.1
    assert outcome.belief.error.doubt == 0


@pytest.mark.parametrize("pause", [1.0, 200.0])
def test_nothing_is_filtered_again_without_a_silence_or_without_a_surprise(
    pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports without a pause are from another place; those after one are from the same."""
    events = [*reports(OLD, 0.0, 12), *reports(NEW if pause == 1 else OLD, 11.0 + pause, 6)]
    assert final(events, RandomWalk((0.0016, 0.0016)), monkeypatch)[1] == 0


def test_a_belief_that_expired_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first report afterwards is surprising under the model's prior too."""
    events = [*reports(OLD, 0.0, 12), *reports(NEW, 200.0, 6), *reports(10 * NEW, 500.0, 1)]
    assert final(events, RandomWalk((0.0016, 0.0016)), monkeypatch)[1] > 0
    monkeypatch.undo()
    _, before = final(events[:-1], RandomWalk((0.0016, 0.0016)), monkeypatch, expires_after=250.0)
    monkeypatch.undo()
    outcome, count = final(events, RandomWalk((0.0016, 0.0016)), monkeypatch, expires_after=250.0)
    alone, _ = final(events[-1:], RandomWalk((0.0016, 0.0016)), monkeypatch)
    assert count == before
    assert outcome.p_value < refiltering.SURPRISING
    np.testing.assert_array_equal(outcome.belief.means, alone.belief.means)


def test_numbers_that_are_not_finite_leave_the_outcome_as_it_is() -> None:
    belief = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    outcome = Outcome(belief, 1.0, math.nan, 1.0, "kalman")
    run = refiltering._Run([], belief, [belief], np.zeros(1))
    run.advance(replace(outcome, log_evidence=0.0), [outcome])
    assert run.parts == []
    assert refiltering._joined(run, updater()) is None


def test_no_place_is_likely_where_reports_are_impossible() -> None:
    seen = encode([[Reading(ranges()[0], np.array([1.0]))]], 2).numbers
    ways = refiltering._Ways(torch.zeros(1, 1, 2).double(), 0.1 * torch.eye(2).double()[None, None], seen)
    for log_prior in (-math.inf, math.nan):
        found = refiltering._likely(
            torch.full((100,), log_prior).double(), torch.zeros(100, 2).double(), ways
        )
        assert len(found) == 0


def test_places_that_are_left_out_early_are_not_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    likely, seen = refiltering._likely, []

    def noting(log_prior: torch.Tensor, points: torch.Tensor, ways: refiltering._Ways) -> torch.Tensor:
        found = likely(log_prior, points, ways)
        joint = log_prior + smoothed(
            ways.seen, points + ways.offsets, ways.frames.expand(-1, len(points), -1, -1)
        )[0].sum(0)
        seen.append((found, torch.nonzero(joint > joint.max() - refiltering.LIKELY)[:, 0], len(points)))
        return found

    monkeypatch.setattr(refiltering, "_likely", noting)
    final([*reports(OLD, 0.0, 12), *reports(NEW, 200.0, 6)], RandomWalk((0.0016, 0.0016)), monkeypatch)
    assert seen
    for found, expected, every in seen:
        assert torch.equal(found, expected)
        assert 0 < len(found) < every / 5
