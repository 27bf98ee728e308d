"""The report: held-out problems, every method compared, tables that add up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer
from beliefstream.streams.scores.filters import ParticleFilter
from research.evaluation.methods import (
    ComparedMethod,
    MethodAnswer,
    baselines,
    gaussian_sum,
    network_alone,
    of_mixture,
    ours,
)
from research.evaluation.problems import held_out_problems, rows
from research.evaluation.report import ALL, Comparison, compare

COUNT, COSTLY = 8, 3


@pytest.fixture(scope="module")
def network() -> DistributionTransformer:
    torch.manual_seed(0)
    return DistributionTransformer(Configuration(width=16, layers=2, heads=2, hidden=16))


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def comparison(network: DistributionTransformer, told: list[tuple[str, int, int]]) -> Comparison:
    again = replace(gaussian_sum(), name="again", batch=3)
    methods = [*ours(network, [8]), *baselines(), again]
    return compare(methods, 1, COUNT, COSTLY, progress=lambda *at: told.append(at))


def test_progress_is_told_of_everything_to_its_end(
    comparison: Comparison, told: list[tuple[str, int, int]]
) -> None:
    assert int(comparison.unresolved.sum()) == 0
    last = {what: (done, total) for what, done, total in told}
    assert last["exact posteriors, d = 1"] == last["EKF, d = 1"] == (COUNT, COUNT)
    assert last["particle filter 1,000, d = 1"] == (COSTLY, COSTLY)


def test_divergences_are_finite_and_not_negative(comparison: Comparison) -> None:
    for method, values in comparison.divergences.items():
        assert values.shape == (COSTLY if "particle" in method else COUNT,)
        # at points that stand for equal mass, the average may be a little below zero
        assert bool((values > -1e-3).all()) and bool(values.isfinite().all()), method


def test_the_same_method_gets_the_same_figures_in_other_batches(comparison: Comparison) -> None:
    divergences = comparison.divergences
    torch.testing.assert_close(divergences["again"], divergences["iterated Gaussian-sum EKF"])


def test_kinds_partition_the_problems(comparison: Comparison) -> None:
    kinds = comparison.kinds
    for names in (
        ["with outliers", "without outliers"],
        [name for name in kinds if name[0].isdigit()],
        ["one mode", "several modes"],
        ["Gaussian prior", "mixture prior"],
        [ALL],
    ):
        assert torch.stack([kinds[name].int() for name in names]).sum(0).tolist() == [1] * COUNT


def test_rows_are_statistics_of_the_divergences(comparison: Comparison) -> None:
    row = next(row for row in comparison.rows([ALL]) if row.method == "EKF")
    values = comparison.divergences["EKF"]
    assert row.problems == COUNT
    assert row.mean == pytest.approx(float(values.mean()))
    assert row.standard_error == pytest.approx(float(values.std()) / COUNT**0.5)
    assert row.median == pytest.approx(float(values.quantile(0.5)))
    assert row.ninetieth == pytest.approx(float(values.quantile(0.9)))
    assert row.worst == float(values.max())


def test_the_log_evidence_counts_where_the_answer_is_trusted(comparison: Comparison) -> None:
    (row,) = comparison.evidence()
    errors, sizes = comparison.evidence_errors[row.method], comparison.sample_sizes[row.method]
    trusted = [abs(float(error)) for error, size in zip(errors, sizes, strict=True) if size >= 0.5]
    assert (row.problems, row.of) == (len(trusted), COUNT)
    assert row.mean_absolute_error == pytest.approx(sum(trusted) / len(trusted))


def test_json_holds_the_tables_and_every_problem(comparison: Comparison) -> None:
    text = json.dumps(comparison.as_dict(), allow_nan=False)
    content = json.loads(text)
    assert len(content["table"]) == len(comparison.rows())
    assert content["divergences"]["EKF"] == comparison.divergences["EKF"].tolist()
    assert content["problems"] == len(content["kinds"][ALL]) == COUNT


def test_an_answer_without_a_density_is_infinitely_far_and_not_left_out() -> None:
    def nothing(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
        broken = GaussianMixture(prior.log_weights, prior.means * math.nan, prior.covariances)
        return of_mixture(broken)

    found = compare([ComparedMethod("nothing", nothing)], 1, 2)
    assert found.divergences["nothing"].tolist() == [math.inf, math.inf]
    assert found.as_dict()["table"][0]["mean"] is None


def test_the_network_answers_with_as_many_components_as_asked(network: DistributionTransformer) -> None:
    problems = held_out_problems("mixed", 2, 5)
    answer = network_alone(network, components=12).respond(problems.prior, problems.observations, 0)
    assert answer.kernels == 12
    assert answer.log_density(problems.state[:, None]).dtype == torch.float64


def test_particles_are_drawn_anew_for_every_batch() -> None:
    method = next(method for method in baselines() if method.name == "particle filter 1,000")
    problems = rows(held_out_problems("mixed", 2, 2), slice(0, 2))
    first, second = (
        method.respond(problems.prior, problems.observations, number).log_density(problems.state[:, None])
        for number in (0, 8)
    )
    assert not torch.equal(first, second)
    belief = ParticleFilter(problems.prior, 1_000, torch.Generator().manual_seed(8))
    belief.update(problems.observations)
    torch.testing.assert_close(second, belief.density().log_density(problems.state[:, None]))


def test_a_run_cut_off_keeps_its_exact_posteriors(tmp_path: Path) -> None:
    cache = tmp_path / "made" / "exact.pt"
    few = compare([gaussian_sum()], 1, 3, cache=cache)
    more = compare([gaussian_sum()], 1, 5, cache=cache)
    whole = compare([gaussian_sum()], 1, 5)
    name = "iterated Gaussian-sum EKF"
    torch.testing.assert_close(few.divergences[name], more.divergences[name][:3], rtol=0, atol=0)
    torch.testing.assert_close(more.divergences[name], whole.divergences[name], rtol=0, atol=1e-12)
