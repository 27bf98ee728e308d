"""Answers of the library to a batch of problems, as plain numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from inference.encoding import encode
from inference.evaluation.adversarial.mixtures import Mixture
from inference.evaluation.adversarial.problems import Problem
from inference.mixture import GaussianMixture
from inference.update import Method, Updater

BATCH = 128


class Answer(NamedTuple):
    """One posterior and what it says of itself."""

    mixture: Mixture
    effective_sample_size: float
    quality: float  # the library's own figure, the effective sample size where it has no other
    log_evidence: float
    method: str
    seconds: float  # of its batch, shared out


def answers(problems: Sequence[Problem], updater: Updater, batch: int = BATCH) -> list[Answer]:
    """In the order of the problems; those of equally many coordinates go in batches, as a worker's would."""
    found: dict[int, Answer] = {}
    for size in sorted({problem.dimension for problem in problems}):
        alike = [i for i, problem in enumerate(problems) if problem.dimension == size]
        for start in range(0, len(alike), batch):
            some = alike[start : start + batch]
            found |= dict(zip(some, _together([problems[i] for i in some], updater), strict=True))
    return [found[i] for i in range(len(problems))]


def _together(problems: Sequence[Problem], updater: Updater) -> list[Answer]:
    prior = stacked([problem.prior for problem in problems])
    observations = encode([problem.readings for problem in problems], problems[0].dimension)
    started = time.perf_counter()
    update = updater.update(prior, observations)
    seconds = (time.perf_counter() - started) / len(problems)
    quality = getattr(update, "quality", update.effective_sample_size)
    posterior, made = update.posterior, []
    for row in range(len(problems)):
        there = posterior.present[row]
        weights = posterior.log_weights[row, there].double().exp().numpy()
        parts = (posterior.means[row, there], posterior.covariances[row, there])
        means, covariances = (part.double().numpy() for part in parts)
        made.append(
            Answer(
                Mixture(weights / weights.sum(), means, covariances),
                float(update.effective_sample_size[row]),
                float(quality[row]),
                float(update.log_evidence[row]),
                Method(int(update.method[row])).name.lower(),
                seconds,
            )
        )
    return made


def stacked(priors: Sequence[Mixture]) -> GaussianMixture:
    """One batch of mixtures of any number of components."""
    most, size = max(len(p.weights) for p in priors), priors[0].means.shape[1]
    weights, means = np.zeros((len(priors), most)), np.zeros((len(priors), most, size))
    covariances = np.tile(np.eye(size), (len(priors), most, 1, 1))
    for row, prior in enumerate(priors):
        count = len(prior.weights)
        weights[row, :count], means[row, :count], covariances[row, :count] = prior
    return GaussianMixture.from_weights(*(torch.from_numpy(part) for part in (weights, means, covariances)))
