"""Prior times learned likelihood is the exact posterior, for laws that only their simulator tells."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood.learned import weights
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.streams.definitions import own_code
from tests.learned import (
    Array,
    LogLikelihood,
    WeightsOf,
    counted,
    divergence_of_learned,
    lagging,
    level,
    module_in,
    shared,
    weights_of as weights_of,  # the fixture
)

Trained = Callable[[str], Path]


@pytest.fixture
def trained(weights_of: WeightsOf, tmp_path: Path) -> Trained:
    """The file of a problem's weights."""

    def found(name: str) -> Path:
        (file := tmp_path / f"{name}.safetensors").write_bytes(weights_of(name))
        return file

    return found


def learned(file: Path, axes: list[int], numbers: list[float]) -> LogLikelihood:
    """The learned log likelihood of an observation, of states ``(P, 2)``."""
    with module_in(file.parent):
        problem = f"simulators:{file.stem}"
        function = ProblemFunction.of(own_code.find(problem))
        likelihood = weights.load(file, problem, function)

    def log_likelihood(states: Array) -> Array:
        at = torch.as_tensor(states[:, axes])
        found: Array = likelihood(at, torch.tensor(numbers).double().expand(len(at), -1)).numpy()
        return found

    return log_likelihood


def divergences(file: Path, cases: list[tuple[LogLikelihood, list[float]]]) -> list[float]:
    """KL(exact ‖ prior × learned likelihood) of each case: an exact likelihood, and the numbers of its observation."""
    axes = [0] if file.stem == "Clipped" else [0, 1]
    return [divergence_of_learned([(exact, learned(file, axes, seen))]) for exact, seen in cases]


def test_poisson_counts(trained: Trained) -> None:
    counts = [(24, -1.0), (9, 3.0), (15, -3.0), (0, 0.0)]
    rare = [(70, 0.5)]  # four prior deviations away
    usual, unusual = (
        divergences(trained("Counter"), [(counted(*each), [*each, 2.0]) for each in part])
        for part in (counts, rare)
    )
    assert 0 < np.mean(usual) < 0.015  # .005 where this was written
    assert 0 < unusual[0] < 0.12  # .04


def test_heavy_tails_and_a_limit(trained: Trained) -> None:
    found = divergences(
        trained("Clipped"), [(level(value), [value]) for value in (2.0, 1.9, 1.1, -0.5, -4.0)]
    )
    assert 0 < np.mean(found) < 0.015


LEVELS = ([0.7], [0.7, 1.5, 0.2], [0.7, 1.5, 0.2, -0.4, 0.9, 1.4])


def rows(levels: list[float]) -> list[float]:
    return [*levels, *[math.nan] * (6 - len(levels))]


def test_sets_of_any_size(trained: Trained) -> None:
    found = divergences(trained("Shared"), [(shared(0.8, each), [*rows(each), 0.8]) for each in LEVELS])
    assert 0 < np.mean(found) < 0.06  # .02 where this was written


def test_sequences_of_any_length(trained: Trained) -> None:
    found = divergences(trained("Lagging"), [(lagging(each), rows(each)) for each in LEVELS])
    assert 0 < np.mean(found) < 0.06
