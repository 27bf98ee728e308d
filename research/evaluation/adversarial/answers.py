"""The library's answers to a batch of problems, as plain numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.tracking.recovery.history import History
from beliefstream.inference.tracking.recovery.light_components import heavy_part
from beliefstream.inference.update.updater import Method, Updater
from research.evaluation.adversarial.chains import Chain
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.problems import Problem

BATCH = 128


class Answer(NamedTuple):
    """A posterior with what is reported of it."""

    mixture: Mixture
    sample_efficiency: float
    log_evidence: float
    method: str
    seconds: float  # per problem of the batch; for a chain per update
    accumulated_error: float | None = None  # reported for the belief of a chain, nats


def answers(problems: Sequence[Problem], updater: Updater) -> list[Answer]:
    """Return answers in the order of the problems; problems of equal dimension are batched, as in a worker."""
    found: dict[int, Answer] = {}
    for size in sorted({problem.dimension for problem in problems}):
        alike = [i for i, problem in enumerate(problems) if problem.dimension == size]
        for start in range(0, len(alike), BATCH):
            some = alike[start : start + BATCH]
            found |= dict(zip(some, _together([problems[i] for i in some], updater), strict=True))
    return [found[i] for i in range(len(problems))]


def _together(problems: Sequence[Problem], updater: Updater) -> list[Answer]:
    prior = stacked([problem.prior for problem in problems])
    observations = encode([problem.readings for problem in problems], problems[0].dimension)
    started = time.perf_counter()
    update = updater.update(prior, observations)
    seconds = (time.perf_counter() - started) / len(problems)
    posterior, made = update.posterior, []
    for row in range(len(problems)):
        there = posterior.present[row]
        weights = posterior.log_weights[row, there].double().exp().numpy()
        parts = (posterior.means[row, there], posterior.covariances[row, there])
        means, covariances = (part.double().numpy() for part in parts)
        made.append(
            Answer(
                Mixture(weights / weights.sum(), means, covariances),
                float(update.sample_efficiency[row]),
                float(update.log_evidence[row]),
                Method(int(update.method[row])).name.lower(),
                seconds,
            )
        )
    return made


def chain_answers(chains: Sequence[Chain], updater: Updater) -> list[Answer]:
    """Return the answer after the last update of each chain, with the log evidence of all its readings."""
    last: list[Any] = [None] * len(chains)
    evidence, spent = np.zeros(len(chains)), np.zeros(len(chains))
    for active, outcomes, seconds in advanced([(chain.model, chain.instants) for chain in chains], updater):
        spent[active] += seconds / len(active)
        for i, outcome in zip(active, outcomes, strict=True):
            last[i] = outcome
            evidence[i] += outcome.log_evidence
    made = []
    for i, outcome in enumerate(last):
        lost = outcome.accumulated_error
        made.append(
            Answer(
                mixture_of(outcome.belief),
                min(float(outcome.sample_efficiency), math.exp(-lost)),
                float(evidence[i]),
                outcome.method,
                float(spent[i]) / len(chains[i].instants),
                lost,
            )
        )
    return made


def advanced(
    logs: Sequence[tuple[StateModel, Sequence[Instant]]], updater: Updater
) -> Iterator[tuple[list[int], list[Outcome], float]]:
    """Advance entities together, as a worker does: each to its first instant, then each to its second one, and so on.

    Each turn yields the indices of the entities that have one more instant, their outcomes, and the seconds it took.
    """
    beliefs: list[Belief | None] = [None] * len(logs)
    histories = [History() for _ in logs]
    for turn in range(max((len(instants) for _, instants in logs), default=0)):
        active = [i for i, (_, instants) in enumerate(logs) if turn < len(instants)]
        started = time.perf_counter()
        steps = []
        for i in active:
            model, instant = logs[i][0], logs[i][1][turn]
            steps.append(Step(beliefs[i], model, instant, histories[i].earlier(instant.time)))
        outcomes = advance(steps, updater)
        seconds = time.perf_counter() - started
        for i, step, outcome in zip(active, steps, outcomes, strict=True):
            beliefs[i] = outcome.belief
            histories[i].add(step, outcome)
        yield active, outcomes, seconds


def mixture_of(belief: Belief) -> Mixture:
    """Return the density of a belief as it is published, without light components."""
    belief = heavy_part(belief)
    return Mixture(belief.weights, belief.means, belief.covariances)


def stacked(priors: Sequence[Mixture]) -> GaussianMixture:
    """Stack mixtures with any number of components into one batch."""
    return concatenate(
        [
            GaussianMixture.from_weights(*(torch.from_numpy(np.asarray(part))[None] for part in prior))
            for prior in priors
        ]
    )
