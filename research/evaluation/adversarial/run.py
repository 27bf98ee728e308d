"""Evaluates an updater on problems of every family, and compares each answer with the oracle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.answers import Answer, answers, chain_answers
from research.evaluation.adversarial.chains import CHAINS, chains
from research.evaluation.adversarial.families import FAMILIES, problems
from research.evaluation.adversarial.filters import Filtered
from research.evaluation.adversarial.mixtures import Mixture, positive_definite
from research.evaluation.adversarial.oracle import Distance, Exact, solve
from research.evaluation.adversarial.problems import Problem
from research.evaluation.adversarial.sequences.kinds import KINDS, SEQUENCES
from research.evaluation.progress import Progress, silent

Accept = Callable[[Mixture], str]
"""Function that returns why a posterior cannot be sent, or an empty string."""
Known = dict[tuple[str, int], Exact | Filtered]
"""Exact posteriors by family and number of the problem."""
MISSED = 0.1  # nats by which the evidence of an answer may exceed that of the oracle
# a problem is undecided if the error of its divergence is larger, in nats or as a share of the divergence
UNSURE = 0.05, 0.1
ALONE_EVERY = 10  # every n-th problem is also answered alone


@dataclass(frozen=True)
class Finding:
    """An answer compared with the exact posterior.

    Attributes:
        family: name of the family.
        number: index of the problem in its family.
        distance: KL(exact ‖ answer), nats.
        answer: the answer.
        evidence_error: answered minus exact log evidence, nats.
        decided: False if the error of the oracle is too large for a comparison.
        fault: why the posterior cannot be used; empty if it can.
        alone: distance and answer of the same problem in a batch of one; None if not computed.
    """

    family: str
    number: int
    distance: Distance
    answer: Answer
    evidence_error: float
    decided: bool
    fault: str
    alone: tuple[Distance, Answer] | None = None


def families_of(names: Sequence[str] | None) -> list[str]:
    """Return the named families, or all, with the kinds of runs in place of `sequences`.

    Raises ValueError for an unknown name.
    """
    known = [*FAMILIES, *CHAINS, *KINDS]
    unknown = [name for name in names or () if name not in (*known, SEQUENCES)]
    if unknown:
        raise ValueError(f"family: expected one of {', '.join((*known, SEQUENCES))}, got {unknown[0]!r}")
    chosen = [each for name in names or known for each in (KINDS if name == SEQUENCES else (name,))]
    return list(dict.fromkeys(chosen))


def findings(
    updater: Updater,
    count: int,
    seed: int,
    families: Sequence[str] | None = None,
    accept: Accept = lambda _: "",
    progress: Progress = silent,
    alone_every: int = ALONE_EVERY,
    known: Known | None = None,
) -> list[Finding]:
    """Evaluate `count` problems of each family, or fewer chains, and return findings in the order of the families.

    Kinds of runs are left to `sequences.findings.run_findings`.
    Every `alone_every`-th problem is also answered alone, unless it is 0. `known` has exact posteriors of an earlier
    call with the same seed; those that it lacks are added. Raises ValueError for an unknown family.
    """
    names = families_of(families)
    drawn = [
        (number, problem)
        for name in names
        if name in FAMILIES
        for number, problem in enumerate(problems(name, count, seed))
    ]
    known = {} if known is None else known
    given = _answered([problem for _, problem in drawn], updater, seed)
    found: list[Finding] = []
    for place, (number, problem) in enumerate(drawn):
        key = problem.family, number
        if key not in known:
            known[key] = solve(problem.prior, problem.readings, draws(seed, number))
        exact, alone = known[key], None
        if alone_every and place % alone_every == 0:
            lonely = answers([problem], updater)[0]
            alone = exact.divergence(lonely.mixture), lonely
        held = _held(number, exact, given[place], accept, seed)
        found.append(Finding(problem.family, number, *held, alone))
        progress("problems", place + 1, len(drawn))
    chained = [name for name in names if name in CHAINS]
    found += _chains(chained, updater, count, seed, accept, progress, known)
    return sorted(found, key=lambda one: names.index(one.family))


def _chains(
    names: Sequence[str],
    updater: Updater,
    count: int,
    seed: int,
    accept: Accept,
    progress: Progress,
    known: Known,
) -> list[Finding]:
    found = []
    for done, name in enumerate(names):
        some = chains(name, count, seed)
        for number, (chain, answer) in enumerate(zip(some, chain_answers(some, updater), strict=True)):
            if (name, number) not in known:
                known[name, number] = chain.exact(draws(seed, number))
            held = _held(number, known[name, number], answer, accept, seed)
            found.append(Finding(name, number, *held))
        progress("chains", done + 1, len(names))
    return found


def _answered(some: Sequence[Problem], updater: Updater, seed: int) -> list[Answer]:
    """Return answers in the given order, computed in batches that mix the families."""
    order = np.random.default_rng(seed).permutation(len(some))
    mixed = answers([some[i] for i in order], updater)
    given = dict(zip(order.tolist(), mixed, strict=True))
    return [given[i] for i in range(len(some))]


def _held(
    number: int, exact: Exact | Filtered, answer: Answer, accept: Accept, seed: int
) -> tuple[Distance, Answer, float, bool, str]:
    distance = exact.divergence(answer.mixture)
    decided = is_decided(exact, answer.mixture, distance, draws(seed, number))
    sound = positive_definite(answer.mixture.covariances)
    fault = accept(answer.mixture) if sound else "not positive definite"
    return distance, answer, answer.log_evidence - exact.log_evidence, decided, fault


def is_decided(
    exact: Exact | Filtered, answer: Mixture, distance: Distance, generator: np.random.Generator
) -> bool:
    """Whether the oracle is exact enough to judge an answer at this distance."""
    absolute, share = UNSURE
    sure = not math.isfinite(distance.value) or distance.error <= absolute + share * abs(distance.value)
    return sure and exact.missed(answer, generator) <= MISSED


def draws(seed: int, number: int) -> np.random.Generator:
    """Return the random number generator of the oracle for one problem."""
    return np.random.default_rng([seed, number, 77])
