"""What training brings: trained networks beside an untrained one, alone, refined once, and in published answers.

Only problems that reach the network count; others are solved in closed form or by quadrature. An untrained network is
an iterated Gauss-Newton update of each component. The check measures, refines and searches its answers as it does those
of a trained one, so published answers show what training is worth to a user.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.training.families import Problems
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.check.refinement import refine
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Method, Updater
from research.evaluation.exact.reference import Reference, references
from research.evaluation.methods import ComparedMethod, MethodAnswer, network_alone, of_mixture, updated
from research.evaluation.problems import rows
from research.evaluation.progress import Progress, silent

NEAR = 0.05  # nats; an answer this near to the exact posterior is as good as it
UNTRAINED = "untrained"


class Gain(NamedTuple):
    """Distances of one network's answers in one dimension, nats, and its processor time."""

    dimension: int
    weights: str
    answer: str  # alone, refined once or published
    problems: int
    near: float  # share of the problems within `NEAR`
    mean: float
    median: float
    worst: float
    milliseconds: float  # of the processor a problem, all in one batch


def untrained(network: DistributionTransformer) -> DistributionTransformer:
    """A network of the same size before its training; its heads are zero."""
    torch.manual_seed(0)
    return DistributionTransformer(network.configuration).eval()


def gain(
    networks: Mapping[str, DistributionTransformer],
    settings: UpdateSettings,
    dimension: int,
    count: int,
    family: str = "mixed",
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress = silent,
) -> list[Gain]:
    """Measure each network, by name, on those of `count` held-out problems that reach it.

    The exact posteriors are kept in the file `cache`. Raises ValueError if family, count or seed is invalid.
    """
    tell = partial(progress, f"exact posteriors, d = {dimension}")
    problems, reference = references(family, dimension, count, seed, cache, tell)
    index = torch.nonzero(reach(problems, next(iter(networks.values())), settings))[:, 0]
    problems, reference, found = rows(problems, index), reference.rows(index), list[Gain]()
    for number, (name, network) in enumerate(networks.items()):
        alone = network_alone(deepcopy(network).double(), settings.most_components)
        methods = (
            replace(alone, name="alone"),
            _refined_once(alone, settings),
            updated(network, settings, "published"),
        )
        found.extend(_measured(method, name, problems, reference) for method in methods)
        progress(f"networks, d = {dimension}", number + 1, len(networks))
    return found


def _refined_once(alone: ComparedMethod, settings: UpdateSettings) -> ComparedMethod:
    """The network and one refinement on points of its own answer: no search, and no second try."""

    def respond(prior: GaussianMixture, observations: Observations, number: int) -> MethodAnswer:
        local = LocalProblem.of(prior, observations, list(range(prior.dimension)))
        answer = alone.respond(local.prior, local.observations, number).mixture
        assert answer is not None
        size = settings.refine_rounds, settings.refine_steps, settings.refine_points
        moved = refine(local, answer, settings.components, *size)
        return of_mixture(local.extend(reduce(moved, settings.most_components, settings.merge_below)))

    return ComparedMethod("refined once", respond)


def reach(problems: Problems, network: DistributionTransformer, settings: UpdateSettings) -> Tensor:
    """Which problems reach the network, ``(B,)`` bool."""
    updater = Updater(network, settings=replace(settings, refine_below=0.0, search=False))
    method = updater.update(problems.prior, problems.observations).method
    return (method == int(Method.TRANSFORMER)) | (method == int(Method.FALLBACK))


def _measured(method: ComparedMethod, weights: str, problems: Problems, reference: Reference) -> Gain:
    given = problems.prior, problems.observations, 0
    method.respond(*given)  # compiles, and fills caches
    started = time.process_time()
    answer = method.respond(*given)
    spent, count = time.process_time() - started, len(problems.state)
    off = reference.divergence(answer.log_density, answer.kernels).nan_to_num(nan=math.inf, posinf=math.inf)
    return Gain(
        problems.state.shape[1],
        weights,
        method.name,
        count,
        float((off <= NEAR).double().mean()),
        float(off.mean()),
        float(off.median()),
        float(off.max()),
        1e3 * spent / count,
    )
