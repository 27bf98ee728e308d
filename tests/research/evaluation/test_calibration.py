"""Calibration: right beliefs pass, beliefs that are too sure or shifted are found out, over problems and over steps."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from scipy import stats

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.coverage import DRAWS, REGIONS, inside, levels
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.result import Answer
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.evaluation import long_run
from research.evaluation.calibration import Calibration, calibrate, ranks, uniformity
from research.evaluation.long_run import LongRun
from research.evaluation.methods import (
    ComparedMethod,
    MethodAnswer,
    baselines,
    of_mixture,
    updated,
)
from tests.inference.plain_models import generator, random_mixture
from tests.inference.problems import updater

COUNT, STEPS = 400, 25


ANSWERS: dict[int, GaussianMixture] = {}  # of the shipped update, batch by batch


def spoiled(factor: float, shift: float) -> ComparedMethod:
    """The update with all covariances times a factor, and means moved by a share of the deviation."""
    right = updated(updater().network, UpdateSettings(), "")

    def respond(prior: GaussianMixture, observations: Observations, number: int) -> MethodAnswer:
        if number not in ANSWERS:
            found = right.respond(prior, observations, number).mixture
            assert found is not None
            ANSWERS[number] = found
        mixture = ANSWERS[number]
        deviation = mixture.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
        means = mixture.means + shift * deviation
        return of_mixture(GaussianMixture(mixture.log_weights, means, factor * mixture.covariances))

    return ComparedMethod(f"covariances × {factor}, means + {shift}", respond)


@pytest.fixture(scope="module")
def found() -> list[Calibration]:
    return calibrate([spoiled(1.0, 0.0), spoiled(0.5, 0.0), spoiled(1.0, 0.4)], 2, COUNT)


def test_the_shipped_update_is_calibrated(found: list[Calibration]) -> None:
    for row in found[0].coverage():
        assert abs(row.share - row.region) < 4 * (row.region * (1 - row.region) / COUNT) ** 0.5
    for values in found[0].uniformity():
        assert values.probability > 1e-4 and values.distance < 1.5 * values.critical


def test_covariances_too_small_by_half_are_found_out(found: list[Calibration]) -> None:
    for row in found[1].coverage():
        assert row.share < row.region - 4 * (row.region * (1 - row.region) / COUNT) ** 0.5
    assert found[1].uniformity()[-1].probability < 1e-6


def test_means_on_one_side_are_found_out_by_the_ranks(found: list[Calibration]) -> None:
    *of_coordinates, _ = found[2].uniformity()
    assert all(values.distance > 1.5 * values.critical for values in of_coordinates)


def test_ranks_are_shares_of_draws_below() -> None:
    mixture, truth = random_mixture(1, 5, 3, 2), random_mixture(2, 5, 1, 2).means[:, 0]
    draws = mixture.sample(20_000, generator(3))
    share = (draws < truth[:, None]).double().mean(1)
    torch.testing.assert_close(ranks(mixture, truth), share, rtol=0, atol=0.02)


def test_levels_of_draws_of_the_belief_itself_are_uniform_to_the_last_rank() -> None:
    mixture = random_mixture(1, 1, 3, 2).rows(torch.zeros(1500, dtype=torch.long))
    truth = mixture.sample(1, generator(4))[:, 0]
    found = levels(mixture, truth, generator(5))
    assert stats.kstest(found.numpy() + 0.5 / (DRAWS + 1), "uniform").pvalue > 0.01
    for region in REGIONS:
        every = torch.arange(DRAWS + 1).double() / (DRAWS + 1)
        assert float(inside(every, region).mean()) == pytest.approx(region, abs=1e-12)


def test_uniformity_is_what_scipy_says() -> None:
    values = torch.rand(500, generator=generator(1), dtype=torch.float64).square()
    found = uniformity(values)
    counts = torch.histc(values, 20, 0, 1).numpy()
    chi_square = stats.chisquare(counts)
    assert found.chi_square == pytest.approx(chi_square.statistic)
    assert found.probability == pytest.approx(chi_square.pvalue, rel=1e-6, abs=1e-12)
    assert found.distance == pytest.approx(stats.kstest(values.numpy(), "uniform").statistic)
    assert found.critical == pytest.approx(stats.kstwobign.ppf(0.95) / 500**0.5, rel=1e-3)


def test_a_density_that_is_no_mixture_is_refused() -> None:
    particles = next(method for method in baselines() if method.costly)
    with pytest.raises(ValueError, match=r"methods: particle filter 1,000"):
        calibrate([particles], 1, 2)


class TooSure(Updater):
    """Says half the covariances that it should."""

    def update(self, prior: GaussianMixture, observations: Observations, *, simulated: bool = True) -> Answer:
        found = super().update(prior, observations, simulated=simulated)
        posterior = found.posterior
        halved = GaussianMixture(posterior.log_weights, posterior.means, posterior.covariances / 2)
        return replace(found, posterior=halved)


@pytest.fixture(scope="module")
def runs() -> list[LongRun]:
    return [long_run.run(made, STEPS, 60) for made in (updater(), TooSure(updater().network))]


def test_a_run_of_many_steps_stays_calibrated_and_one_too_sure_does_not(runs: list[LongRun]) -> None:
    (right,), (wrong,) = (run.periods(1) for run in runs)
    for row in right.coverage:
        assert abs(row.share - row.region) < 4 * max(row.standard_error, 0.005)
    assert wrong.coverage[1].share < 0.9 - 4 * wrong.coverage[1].standard_error
    assert wrong.coverage[1].share < right.coverage[1].share - 0.15


def test_periods_are_the_whole_run(runs: list[LongRun]) -> None:
    periods = runs[0].periods(7)
    assert (periods[0].first, periods[-1].last) == (1, STEPS)
    assert all(before.last + 1 == after.first for before, after in pairwise(periods))
    weighted = sum((part.last - part.first + 1) * part.coverage[0].share for part in periods) / STEPS
    assert weighted == pytest.approx(runs[0].periods(1)[0].coverage[0].share)
    assert len(LongRun(runs[0].ranks[:3], runs[0].levels[:3]).periods()) == 3


def test_calibrations_and_runs_are_json(found: list[Calibration], runs: list[LongRun]) -> None:
    content = json.loads(json.dumps([found[0].as_dict(), runs[0].as_dict()], allow_nan=False))
    assert [sum(histogram) for histogram in content[0]["histograms"]] == [COUNT] * 3
    assert content[1]["steps"] == STEPS and len(content[1]["last"]) == 5


def test_a_run_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="steps, entities"):
        long_run.run(updater(), 0, 1)
