"""Held-out calibration of likelihoods whose errors are known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from beliefstream.inference.likelihood.learned.network import LearnedLikelihood
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.training.likelihood.calibration import calibrate
from tests.inference.likelihood.learned.simulators import COUNTER, Counter, untrained

FAIR = 0.5


class Coins:
    """Two fair coins, of which the second shows what the first shows in the share `same` of all cases."""

    parameters: Any = {"x": "real"}  # noqa: RUF012
    data: Any = {"first": "binary", "second": "binary"}  # noqa: RUF012
    context: Any = ()
    ranges: Any = {"x": (0, 1)}  # noqa: RUF012
    same = FAIR

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        first, other = torch.rand(2, len(parameters["x"]), generator=generator).double()
        shown = (first < FAIR).double()
        return {"first": shown, "second": torch.where(other < self.same, shown, 1 - shown)}


def believed(problem: Coins, first: float, second: float) -> tuple[LearnedLikelihood, ProblemFunction]:
    """A likelihood that takes the two coins to show one with these probabilities, whatever the other shows."""
    likelihood, function = untrained(problem, "m:Coins")
    with torch.no_grad():
        for network, probability in zip(likelihood.networks, (first, second), strict=True):
            weights, bias = list(network.parameters())[-2:]
            weights.zero_()
            bias.copy_(torch.tensor([1 - probability, probability]).log())
    return likelihood, function


def kl(true: float, believed: float) -> float:
    return true * math.log(true / believed) + (1 - true) * math.log((1 - true) / (1 - believed))


def test_the_right_likelihood_has_no_error_but_chance() -> None:
    found = calibrate(*believed(Coins(), FAIR, FAIR))
    assert found.log_score[0] == pytest.approx(2 * math.log(2), abs=1e-6)
    assert found.divergence[0] < 4 * found.divergence[1] + 1e-4
    assert found.calibration_error < 0.01 and found.rank_error < 0.04


def test_the_divergence_of_wrong_probabilities_is_measured() -> None:
    found = calibrate(*believed(Coins(), 0.3, 0.6))
    assert found.divergence[0] == pytest.approx(kl(FAIR, 0.3) + kl(FAIR, 0.6), abs=0.005)
    assert found.calibration_error > 0.03


def test_data_that_depend_on_each_other_unnoticed_are_an_error() -> None:
    problem = Coins()
    problem.same = 0.8
    found = calibrate(*believed(problem, FAIR, FAIR))
    # the mutual information of the coins, of which the coarse bins and the random part of each place keep all
    assert found.divergence[0] == pytest.approx(math.log(2) - entropy(0.8), abs=0.01)


def entropy(share: float) -> float:
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def test_ranks_of_a_likelihood_that_is_sure_of_the_wrong_are_uneven() -> None:
    likelihood, function = untrained(Counter(), COUNTER)
    with torch.no_grad():
        list(likelihood.networks.parameters())[-2].mul_(30)
    assert calibrate(likelihood, function).rank_error > 0.05


def test_the_seed_decides() -> None:
    made = [calibrate(*believed(Coins(), 0.4, FAIR), seed=seed) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
