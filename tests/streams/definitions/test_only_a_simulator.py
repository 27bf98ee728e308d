"""docs/own-likelihood.md, "Only a simulator": the command on the page trains, and the posterior is the exact one."""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.schemas import Posterior, parse
from beliefstream.streams.definitions import own_code
from tests.streams.cli.conftest import Run, run as run  # the fixture
from tests.streams.definitions.test_own_likelihood import PAGE, blocks

SHORT = ("--steps", "400", "--width", "32", "--device", "cpu")
SENSOR, MODEL, OBSERVATION = (json.loads(block) for block in blocks("json")[3:])


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the page's module in it, of which nothing is left behind."""
    (tmp_path / "crowd.py").write_text(blocks("python")[1])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(own_code, "_modules", set())
    own_code.find.cache_clear()
    yield tmp_path
    sys.modules.pop("crowd", None)
    own_code.find.cache_clear()


def test_the_page_leads_to_the_posterior_of_the_exact_law(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = [line for line in PAGE.splitlines() if line.startswith("beliefstream train")]
    trained = run(*shlex.split(command)[1:], *SHORT, "--checkpoint", "run.pt")
    assert trained.status == 0, trained.err
    assert "sha256" in trained.out and (folder / "CrowdCamera.md").exists()
    lines = [SENSOR, MODEL, OBSERVATION, {**OBSERVATION, "time": 2, "value": [80, 0.9]}]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setenv(own_code.SETTING, "crowd")
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err
    last = [parse(Posterior, line.encode()) for line in result.out.splitlines()][-1]
    assert last.quality.likelihood == "learned" and last.quality.outside_training == 0
    # a Poisson count whose mean has a gamma factor of shape 4 is negative binomial
    at = np.linspace(0.5, 7.5, 4001)
    target = scipy.stats.norm(4, math.sqrt(0.6)).logpdf(at)
    for heads, share in ((37, 0.6), (80, 0.9)):
        target = target + scipy.stats.nbinom(4, 4 / (4 + share * np.exp(at))).logpmf(heads)
    width = at[1] - at[0]
    target = target - scipy.special.logsumexp(target) - math.log(width)
    mixture = last.mixture
    parts = [
        math.log(weight) + scipy.stats.norm(mean[0], math.sqrt(covariance[0][0])).logpdf(at)
        for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    divergence = float((np.exp(target) * (target - scipy.special.logsumexp(parts, 0))).sum() * width)
    assert last.quality.accumulated_error is not None
    assert -0.001 < divergence < min(0.1, last.quality.accumulated_error + 0.01)


def test_the_problem_is_a_simulator_of_a_dozen_lines() -> None:
    module = blocks("python")[1]
    assert "log_likelihood" not in module
    assert len([line for line in module.splitlines() if line]) <= 14


def executed(source: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    exec(source, found)
    return found


def test_the_features_of_the_page_say_all_that_its_likelihood_depends_on() -> None:
    method = {"features": executed(blocks("python")[2])["features"]}
    geiger = ProblemFunction.of(type("Counter", (executed(blocks("python")[0])["Geiger"],), method)())
    context = torch.tensor([[1.0, 2.0, 5.0, 10.0]] * 2, dtype=torch.float64)
    turned = torch.tensor([[4.0, 2.0, 6.0], [1.0, -1.0, 6.0]], dtype=torch.float64)  # 3 m from the counter
    features = geiger.features(turned, context)
    torch.testing.assert_close(features, torch.tensor([[math.log(10), 6.0]] * 2).double())
    numbers = torch.cat([torch.full((2, 1), 400.0), context], 1).double()
    first, second = geiger.log_likelihood(turned, numbers).tolist()
    assert first == pytest.approx(second)


def test_the_set_of_the_page_is_drawn_with_six_rows() -> None:
    levels = ProblemFunction.of(executed(blocks("python")[3])["Levels"]())
    coordinates, context = torch.zeros(4000, 1).double(), torch.full((4000, 1), 0.8).double()
    drawn = levels.simulate(coordinates, context, torch.Generator().manual_seed(0)).numpy()
    expected = 0.8**2 + 0.3**2 * np.eye(6)
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.06)
