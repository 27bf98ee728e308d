"""What the families draw: every cause that was found, and the same problems for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from research.evaluation.adversarial.chains import CHAINS, UPDATES, chains
from research.evaluation.adversarial.families import FAMILIES, problems
from research.evaluation.adversarial.likelihood import touched
from research.evaluation.adversarial.mixtures import positive_definite

EVERY = sorted(FAMILIES)


def test_there_are_more_than_twenty_families() -> None:
    assert len(FAMILIES) + len(CHAINS) > 20


@pytest.mark.parametrize("family", EVERY)
def test_a_problem_is_the_same_in_a_longer_list(family: str) -> None:
    one, many = problems(family, 1, 3)[0], problems(family, 3, 3)
    assert np.array_equal(one.prior.means, many[0].prior.means)
    assert all(np.array_equal(a.value, b.value) for a, b in zip(one.readings, many[0].readings, strict=True))
    other = problems(family, 1, 4)[0]
    assert not np.array_equal(one.readings[0].value, other.readings[0].value)


@pytest.mark.parametrize("family", EVERY)
def test_problems_are_whole(family: str) -> None:
    for problem in problems(family, 10, 2):
        assert problem.prior.weights.sum() == pytest.approx(1)
        assert positive_definite(problem.prior.covariances)
        assert 1 <= len(problem.readings) <= 6  # as many as go into one update
        assert all(np.isfinite(reading.value).all() for reading in problem.readings)


def test_unknown_families_are_named() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        problems("nonsense", 1, 0)
    with pytest.raises(ValueError, match="nonsense"):
        chains("nonsense", 1, 0)


def test_every_cause_is_drawn() -> None:
    drawn = {family: problems(family, 40, 0) for family in FAMILIES}
    contradicting = [r.sensor for p in drawn["contradictions, no outliers"] for r in p.readings]
    assert all(sensor.outlier_probability == 0 for sensor in contradicting)
    assert {sensor.kind for sensor in contradicting} == {0, 1, 2}
    assert all(
        r.sensor.outlier_probability == 0.05
        for p in drawn["contradictions, 5 % outliers"]
        for r in p.readings
    )
    near = drawn["near anchors"][0]
    assert near.prior.covariances[0, 0, 0] == 1e10
    assert {tuple(touched(problem.readings, 9)) for problem in drawn["9 coordinates"]} == {(0, 1, 2)}
    reflecting = [r.sensor.noise for p in drawn["reflections"] for r in p.readings]
    assert all(noise is not None and noise.is_mixture for noise in reflecting)
    mirrored = [float(np.sqrt(r.sensor.covariance[0, 0])) for p in drawn["mirror images"] for r in p.readings]
    assert min(mirrored) < 2e-3
    components = [len(problem.prior.weights) for problem in drawn["2 to 64 components"]]
    assert min(components) <= 4
    assert max(components) > 32
    assert {len(problem.prior.weights) for problem in drawn["linear, 40 components"]} == {40}
    units = np.sqrt(np.diagonal(drawn["mixed units"][0].prior.covariances[0]))
    assert units[1] / units[0] > 1e4


def test_chains_are_long_and_each_update_says_little() -> None:
    (chain,) = chains("static chains", 1, 0)
    assert len(chain.instants) == UPDATES
    assert len(chains("static chains", 21, 0)) == 3
