"""The report: held-out problems, every method compared, tables that add up."""

from __future__ import annotations

import json

import pytest
import torch

from inference.evaluation.baselines import gaussian_sum_update
from inference.evaluation.report import HELD_OUT_SEED, Report, evaluate, network_alone, planar_problems
from inference.transformer import Configuration, DistributionTransformer


@pytest.fixture(scope="module")
def network() -> DistributionTransformer:
    torch.manual_seed(0)
    return DistributionTransformer(Configuration(width=16, layers=2, heads=2, hidden=16))


@pytest.fixture(scope="module")
def done() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def report(network: DistributionTransformer, done: list[tuple[int, int]]) -> Report:
    others = {"again": gaussian_sum_update}
    return evaluate(network, count=8, progress=lambda *at: done.append(at), others=others)


def test_progress_is_told_of_every_problem(report: Report, done: list[tuple[int, int]]) -> None:
    assert report.unresolved == 0
    assert done == [(number, 8) for number in range(1, 9)]


def test_divergences_are_finite_and_not_negative(report: Report) -> None:
    assert list(report.divergences) == ["network", "Gaussian sum", "again", "particle filter 10000"]
    for method, values in report.divergences.items():
        assert values.shape == (8,)
        # at points that stand for equal mass, the average may be a little below
        assert bool((values > (-0.02 if "particle" in method else -1e-5)).all()), method


def test_the_same_method_gets_the_same_figures(report: Report) -> None:
    torch.testing.assert_close(report.divergences["again"], report.divergences["Gaussian sum"])


def test_subsets_partition_the_problems(report: Report) -> None:
    subsets = report.subsets()
    by_outliers = subsets["with outliers"].int() + subsets["without outliers"].int()
    by_number = torch.stack([part.int() for name, part in subsets.items() if "observation" in name]).sum(0)
    assert by_outliers.tolist() == by_number.tolist() == [1] * 8


def test_rows_are_statistics_of_the_divergences(report: Report) -> None:
    row = next(row for row in report.rows() if (row.method, row.subset) == ("network", "all"))
    values = report.divergences["network"]
    assert row.problems == 8
    assert row.mean == pytest.approx(float(values.mean()))
    assert row.standard_error == pytest.approx(float(values.std()) / 8**0.5)
    assert row.median == pytest.approx(float(values.quantile(0.5)))
    assert row.ninetieth == pytest.approx(float(values.quantile(0.9)))
    assert row.worst == float(values.max())


def test_json_holds_the_table_and_every_divergence(report: Report) -> None:
    content = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert len(content["table"]) == len(report.rows())
    assert content["divergences"]["network"] == report.divergences["network"].tolist()
    assert len(content["outliers"]) == len(content["observations"]) == 8


def test_the_network_answers_with_as_many_components_as_asked(network: DistributionTransformer) -> None:
    problems = planar_problems(5)
    answer = network_alone(network, components=12)(problems.prior, problems.observations)
    assert (answer.batch, answer.components, answer.dimension) == (5, 12, 2)
    assert answer.means.dtype == torch.float64
    torch.testing.assert_close(answer.log_weights.exp().sum(1), torch.ones(5, dtype=torch.float64))


def test_held_out_problems_are_those_of_no_training_step() -> None:
    # PyTorch uses the low 32 bits of a CPU generator's seed; a training step's seed is the step itself
    assert 10_000_000 < HELD_OUT_SEED < 2**32
    first = planar_problems(4)
    torch.testing.assert_close(planar_problems(4).state, first.state, rtol=0, atol=0)
    assert not torch.allclose(planar_problems(4, seed=0).state, first.state)
    torch.testing.assert_close(first.prior.log_weights.exp().sum(1), torch.ones(4, dtype=torch.float64))
    assert first.observations.value.dtype == torch.float64
