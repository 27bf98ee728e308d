"""The scores: closed forms for a Gaussian, and losses counted where they are."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters import ParticleFilter
from beliefstream.streams.scores.measures import LOST_FOR, Scores, row_of

# not imported with this file: that takes seconds in every process that collects it
pytestmark = pytest.mark.skipif(find_spec("scoringrules") is None, reason="the energy score comes from it")


def standard(batch: int, dimension: int = 2) -> GaussianMixture:
    mean = torch.zeros(batch, dimension, dtype=torch.float64)
    return GaussianMixture.gaussian(mean, torch.eye(dimension, dtype=torch.float64).expand(batch, -1, -1))


def test_a_gaussian_that_is_right_has_the_scores_of_the_closed_form() -> None:
    count, scores = 2000, Scores(2000)
    truth = torch.randn(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for start in range(0, count, 500):
        part = truth[start : start + 500]
        times = [float(start + i) for i in range(500)]
        scores.add_batch(["a"] * 500, times, standard(500), part)
    row = row_of(scores.found, "recording", "method", 7.0, 10.0)
    assert row.cases == count
    assert row.rmse == pytest.approx(math.sqrt(2), rel=0.05)
    assert row.median == pytest.approx(math.sqrt(2 * math.log(2)), rel=0.05)  # of a Rayleigh distribution
    assert row.error99 == pytest.approx(math.sqrt(2 * math.log(100)), rel=0.1)
    assert row.negative_log_likelihood == pytest.approx(math.log(2 * math.pi) + 1, rel=0.03)
    # E|X - x| - E|X - X'| / 2 of three independent standard normal draws in the plane
    assert row.energy_score == pytest.approx(math.sqrt(math.pi) / 2, rel=0.05)
    assert row.coverage50 == pytest.approx(0.5, abs=0.07)
    assert row.coverage90 == pytest.approx(0.9, abs=0.04)
    assert row.coverage99 == pytest.approx(0.99, abs=0.015)
    assert (row.divergences, row.updates_per_second) == (0, 7.0)


def test_particles_score_as_the_density_they_came_from() -> None:
    belief = ParticleFilter(standard(1), 20_000, torch.Generator().manual_seed(2))
    noise = 0.5 * torch.eye(2, dtype=torch.float64)[None]
    wider = GaussianMixture.gaussian(
        torch.zeros(1, 2, dtype=torch.float64), torch.eye(2).double()[None] + noise
    )
    ours, theirs = Scores(50), Scores(50)
    for number in range(50):
        target = torch.tensor([[0.05 * number, -0.02 * number]], dtype=torch.float64)
        ours.add("a", number, wider, target)
        theirs.add("a", number, belief.density([0, 1], noise), target)
    first, second = (row_of(each.found, "r", "m", 1.0) for each in (ours, theirs))
    assert second.negative_log_likelihood == pytest.approx(first.negative_log_likelihood, abs=0.02)
    assert second.rmse == pytest.approx(first.rmse, rel=0.02)
    assert second.energy_score == pytest.approx(first.energy_score, rel=0.05)


def test_nll_over_ours_is_paired_by_case_whatever_the_order() -> None:
    wide = GaussianMixture.gaussian(*(4.0 * part for part in standard(1).moments()))
    ours, theirs = Scores(40), Scores(40)
    targets = torch.randn(40, 1, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for number in range(40):
        ours.add("a", number, standard(1), targets[number])
    for number in reversed(range(40)):
        theirs.add("a", number, wide, targets[number])
    squared = targets.square().sum(-1)[:, 0]
    expected = math.log(4.0) + 0.5 * squared / 4 - 0.5 * squared
    over, error = theirs.over(ours)
    assert over == pytest.approx(float(expected.mean()))
    assert error == pytest.approx(float(expected.view(20, 2).mean(1).std()) / math.sqrt(20))
    assert ours.over(ours) == (0.0, 0.0)


def lost_for(*runs: tuple[int, float]) -> int:
    """Divergences of errors one after the other: so many cases with such an error each."""
    scores, number = Scores(100), 0
    for count, error in runs:
        for _ in range(count):
            scores.add("a", number, standard(1), torch.tensor([[error, 0.0]], dtype=torch.float64))
            number += 1
    return row_of(scores.found, "r", "m", 1.0, 5.0).divergences


def test_errors_that_stay_large_are_divergences_and_single_ones_are_not() -> None:
    assert lost_for((30, 1.0), (LOST_FOR - 1, 9.0), (30, 1.0)) == 0
    assert lost_for((30, 1.0), (3 * LOST_FOR, 9.0), (30, 1.0)) == 1
    assert lost_for((LOST_FOR, 9.0), (5, 1.0), (LOST_FOR, 9.0)) == 2
    assert lost_for((LOST_FOR, math.nan)) == 1  # what is no number is lost too


def test_nothing_scored_is_nothing_said() -> None:
    row = row_of({}, "r", "m", 1.0)
    assert row.cases == row.divergences == 0
    assert math.isnan(row.rmse) and math.isnan(row.coverage90) and math.isnan(row.energy_score)
