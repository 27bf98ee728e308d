"""docs/one-pass.md: the command on the page trains, and its program gives the gamma posterior in closed form."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from beliefstream.streams.definitions import own_code
from tests.streams.cli.conftest import Run, run as run  # the fixture

PAGE = (Path(__file__).parents[3] / "docs" / "one-pass.md").read_text(encoding="utf-8")
SHORT = (
    "--steps",
    "120",
    "--batch",
    "48",
    "--width",
    "32",
    "--layers",
    "2",
    "--tokens",
    "4",
    "--warm-up",
    "20",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def block(language: str) -> str:
    (found,) = blocks(language)
    return found


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the page's module in it, of which nothing is left behind."""
    (tmp_path / "arrivals.py").write_text(block("python"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(own_code, "_modules", set())
    own_code.find.cache_clear()
    yield tmp_path
    sys.modules.pop("arrivals", None)
    own_code.find.cache_clear()


def test_the_page_leads_to_the_posterior_in_closed_form(folder: Path, run: Run) -> None:
    command = shlex.split(block("sh"))
    trained = run(*command[1:], *SHORT, "--checkpoint", "run.pt")
    assert trained.status == 0, trained.err
    assert (folder / "Arrivals.published.md").exists()
    found: dict[str, Any] = {}
    exec("".join(blocks("py")), found)
    answer = found["answer"]
    law = scipy.stats.gamma(2.0 + 9, scale=1 / (0.5 + 2.0))
    assert scipy.stats.kstest(np.exp(found["samples"].points[:, 0]), law.cdf).pvalue > 1e-3
    assert (answer.likelihood, answer.outside_training, len(answer.weights)) == ("exact", 0, 8)
    at = np.linspace(-3, 4, 4001)
    exact = law.logpdf(np.exp(at)) + at
    laws = scipy.stats.norm(answer.means[:, 0], np.sqrt(answer.covariances[:, 0, 0]))
    density = np.log((answer.weights * laws.pdf(at[:, None])).sum(1))
    divergence = float((np.exp(exact) * (exact - density)).sum() * (at[1] - at[0]))
    assert 0 <= divergence < answer.divergence + 4 * answer.divergence_error + 0.002
    assert divergence < 0.01
