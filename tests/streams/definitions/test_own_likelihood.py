"""docs/own-likelihood.md: the problem in it has the posterior of a grid, and `fuse` loads it as the page says."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.schemas import Posterior, parse
from beliefstream.streams.definitions import own_code
from tests.streams.cli.conftest import Run, run as run  # the fixture

Array = NDArray[np.float64]
PAGE = (Path(__file__).parents[3] / "docs" / "own-likelihood.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


SENSOR, MODEL, OBSERVATION, *_ = (json.loads(block) for block in blocks("json"))
TRUTH = np.array([3.0, -4.0, 6.3])
COUNTERS = np.array([[6, -2], [-7, 3], [2, -9], [-1, -4], [9, 5], [4, -6]], dtype=float)


def mean_of(states: Array, counter: Array) -> Array:
    """Expected counts of states ``(P, 3)``."""
    squared = np.square(states[:, :2] - counter).sum(1)
    found: Array = 10 * (5 + np.exp(states[:, 2]) / (squared + 1))
    return found


COUNTS = [int(scipy.stats.poisson(mean_of(TRUTH[None], c)[0]).ppf(0.4)) for c in COUNTERS]


def log_target(states: Array) -> Array:
    """Log of prior times likelihood of all counts, up to no constant at all."""
    prior = scipy.stats.multivariate_normal([0, 0, 6], np.diag([64, 64, 0.5])).logpdf(states)
    laws = (
        scipy.stats.poisson(mean_of(states, where)).logpmf(count)
        for where, count in zip(COUNTERS, COUNTS, strict=True)
    )
    return np.asarray(prior + sum(laws), dtype=np.float64)


def box(low: Array, high: Array, count: int) -> tuple[Array, float]:
    """The centres of the cells of a grid ``(P, 3)``, and the log volume of one."""
    width = (high - low) / count
    axes = [low[i] + (np.arange(count) + 0.5) * width[i] for i in range(3)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), float(np.log(width).sum())


def exact() -> tuple[Array, Array, Array]:
    """States, their share of the posterior, and the log density there; zooms in on what matters."""
    low, high = np.array([-40, -40, 2.5]), np.array([40, 40, 9.5])
    for below in (400, 100, 40, 25, 25):  # the posterior is thin: between coarse cells it may be far denser
        states, volume = box(low, high, 50)
        target = log_target(states)
        near = states[target > target.max() - below]
        cell = (high - low) / 50
        low, high = near.min(0) - cell, near.max(0) + cell
    states, volume = box(low, high, 80)
    target = log_target(states)
    evidence = scipy.special.logsumexp(target) + volume
    return states, np.exp(target - evidence + volume), target - evidence


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the page's module in it, of which nothing is left behind."""
    module, *_ = blocks("python")
    (tmp_path / "geiger.py").write_text(module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(own_code, "_modules", set())
    own_code.find.cache_clear()
    yield tmp_path
    sys.modules.pop("geiger", None)
    own_code.find.cache_clear()


def log_of(observations: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(each) for each in (SENSOR, MODEL, *observations))


def test_fuse_has_the_grids_posterior(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    observations = [
        {**OBSERVATION, "time": float(number), "value": [count, *where]}
        for number, (count, where) in enumerate(zip(COUNTS, COUNTERS.tolist(), strict=True))
    ]
    (folder / "log.jsonl").write_text(log_of(observations))
    monkeypatch.setenv(own_code.SETTING, "geiger")
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err
    posteriors = [parse(Posterior, line.encode()) for line in result.out.splitlines()]
    assert len(posteriors) == len(COUNTS)
    assert {each.quality.likelihood for each in posteriors} == {"exact"}
    states, share, log_density = exact()
    last = posteriors[-1]
    parts = [
        math.log(weight) + scipy.stats.multivariate_normal(mean, covariance).logpdf(states)
        for weight, mean, covariance in zip(
            last.mixture.weights, last.mixture.means, last.mixture.covariances, strict=True
        )
    ]
    divergence = float((share * (log_density - scipy.special.logsumexp(parts, 0))).sum())
    assert last.quality.accumulated_error is not None
    assert -0.01 < divergence < min(0.1, last.quality.accumulated_error + 0.02)


def test_an_observation_as_on_the_page_gives_a_posterior(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "log.jsonl").write_text(log_of([OBSERVATION]))
    monkeypatch.setenv(own_code.SETTING, "geiger")
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err


def test_the_problem_is_twenty_lines_and_passes_its_trial(folder: Path) -> None:
    own_code.load("geiger")
    assert len([line for line in blocks("python")[0].splitlines() if line]) <= 20
    function = ProblemFunction.of(own_code.find("geiger:Geiger")).tried([6.0, -2.0, 5.0, 10.0])
    at, numbers = torch.zeros(1, 3).double(), torch.tensor([[50.0, 6.0, -2.0, 5.0, 10.0]]).double()
    expected = scipy.stats.poisson(50 + 10 / 41).logpmf(50)
    assert float(function.log_likelihood(at, numbers)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("loaded", "changes", "shown"),
    [
        ("", {}, "is in a module that is not loaded; name it in BELIEFSTREAM_MEASUREMENTS"),
        ("geiger", {"problem": "geiger:Gieger"}, "geiger has no Gieger"),
        ("geiger", {"context": {"background": 5}}, "context: geiger:Geiger needs seconds"),
    ],
)
def test_a_definition_that_does_not_fit_is_told_with_the_observation(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, loaded: str, changes: dict[str, Any], shown: str
) -> None:
    lines = [json.dumps(each) for each in ({**SENSOR, **changes}, MODEL, OBSERVATION)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv(own_code.SETTING, loaded)
    result = run("fuse", "log.jsonl")
    assert "invalid_definition: sensor: geiger-1 cannot be used" in result.err and shown in result.err


NEVER = """

class Never(Geiger):
    def log_likelihood(self, data, parameters, context):
        found = super().log_likelihood(data, parameters, context)
        return torch.where(data["count"] == 7, -torch.inf, found)
"""


def test_what_no_state_can_explain_is_a_dead_letter_and_the_belief_stays(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "geiger.py").open("a") as file:
        file.write(NEVER)
    observations = [{**OBSERVATION, "time": time, "value": [7, 20.0, 20.0]} for time in (1.0,)]
    lines = [json.dumps(each) for each in ({**SENSOR, "problem": "geiger:Never"}, MODEL, *observations)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv(own_code.SETTING, "geiger")
    result = run("fuse", "log.jsonl")
    assert "numerical" in result.err and not result.out.strip()


def test_a_likelihood_that_was_learned_says_so(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (folder / "geiger.py").open("a") as file:
        file.write("\n\nclass Fitted(Geiger):\n    is_learned = True\n")
    weak = {**OBSERVATION, "value": [50, 30.0, 30.0]}
    lines = [json.dumps(each) for each in ({**SENSOR, "problem": "geiger:Fitted"}, MODEL, weak)]
    (folder / "log.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv(own_code.SETTING, "geiger")
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err
    assert parse(Posterior, result.out.strip().encode()).quality.likelihood == "learned"
