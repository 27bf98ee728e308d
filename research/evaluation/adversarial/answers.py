"""The library's answers to a batch of problems, as plain numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.filtering import Step, advance
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
    beliefs: list[Belief | None] = [None] * len(chains)
    last: list[Any] = [None] * len(chains)
    evidence, seconds = np.zeros(len(chains)), np.zeros(len(chains))
    for turn in range(max((len(chain.instants) for chain in chains), default=0)):
        active = [i for i, chain in enumerate(chains) if turn < len(chain.instants)]
        started = time.perf_counter()
        outcomes = advance(
            [Step(beliefs[i], chains[i].model, chains[i].instants[turn]) for i in active], updater
        )
        seconds[active] += (time.perf_counter() - started) / len(active)
        for i, outcome in zip(active, outcomes, strict=True):
            beliefs[i], last[i] = outcome.belief, outcome
            evidence[i] += outcome.log_evidence
    made = []
    for i, outcome in enumerate(last):
        belief, lost = outcome.belief, outcome.accumulated_error
        made.append(
            Answer(
                Mixture(belief.weights, belief.means, belief.covariances),
                min(float(outcome.sample_efficiency), math.exp(-lost)),
                float(evidence[i]),
                outcome.method,
                float(seconds[i]) / len(chains[i].instants),
                lost,
            )
        )
    return made


def stacked(priors: Sequence[Mixture]) -> GaussianMixture:
    """Stack mixtures with any number of components into one batch."""
    return concatenate(
        [
            GaussianMixture.from_weights(*(torch.from_numpy(np.asarray(part))[None] for part in prior))
            for prior in priors
        ]
    )
