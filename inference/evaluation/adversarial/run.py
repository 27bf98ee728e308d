"""The evaluation: problems of every family, answers in batches, each held against the oracle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluation.adversarial.answers import Answer, answers
from inference.evaluation.adversarial.families import FAMILIES, problems
from inference.evaluation.adversarial.mixtures import Mixture, positive_definite
from inference.evaluation.adversarial.oracle import Distance, solve
from inference.evaluation.adversarial.problems import Problem
from inference.update import Updater

Accept = Callable[[Mixture], str]
"""Says why a posterior cannot be sent, nothing where it can."""
Progress = Callable[[str, int, int], None]
MISSED = 0.1  # nats of evidence that an answer may find beyond the oracle's
UNSURE = (
    0.05,
    0.1,
)  # error of a divergence from which on a problem is undecided: nats, and a share of the divergence


@dataclass(frozen=True)
class Finding:
    """One answer beside the exact posterior."""

    family: str
    number: int
    distance: Distance
    answer: Answer
    evidence_error: float  # answered less exact log evidence, nats
    decided: bool
    fault: str  # why the posterior cannot be used, nothing where it can
    dimension: int


def findings(
    updater: Updater,
    count: int,
    seed: int,
    families: Sequence[str] | None = None,
    accept: Accept | None = None,
    progress: Progress | None = None,
) -> tuple[list[Finding], list[Problem]]:
    """`count` problems of each family, all if none are named; raises ValueError for one that does not exist."""
    drawn = [(n, p) for family in families or FAMILIES for n, p in enumerate(problems(family, count, seed))]
    # mixed, so that a batch holds problems of many families
    order = np.random.default_rng(seed).permutation(len(drawn))
    mixed = answers([drawn[i][1] for i in order], updater)
    given = {int(place): answer for place, answer in zip(order, mixed, strict=True)}
    found = []
    for place, (number, problem) in enumerate(drawn):
        found.append(_held(problem, number, given[place], seed, accept))
        if progress is not None:
            progress("exact posteriors", place + 1, len(drawn))
    return found, [problem for _, problem in drawn]


def _held(problem: Problem, number: int, answer: Answer, seed: int, accept: Accept | None) -> Finding:
    generator = np.random.default_rng([seed, number, 77])
    exact = solve(problem.prior, problem.readings, generator)
    distance = exact.divergence(answer.mixture)
    absolute, share = UNSURE
    decided = not math.isfinite(distance.value) or distance.error <= absolute + share * distance.value
    decided = decided and exact.missed(answer.mixture, generator) <= MISSED
    fault = "" if positive_definite(answer.mixture.covariances) else "not positive definite"
    if not fault and accept is not None:
        fault = accept(answer.mixture)
    error = answer.log_evidence - exact.log_evidence
    return Finding(problem.family, number, distance, answer, error, decided, fault, problem.dimension)
