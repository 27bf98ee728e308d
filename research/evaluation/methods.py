"""Methods to compare: the network, the update of a worker and the classical filters, each as a log density."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import DistributionTransformer, duplicate_components
from beliefstream.inference.update.updater import Updater, UpdateSettings
from beliefstream.streams.scores.filters import ExtendedKalmanFilter, ParticleFilter
from research.evaluation.baselines import UnscentedKalmanFilter, gaussian_sum_update

PARTICLES = (1_000, 10_000)


class MethodAnswer(NamedTuple):
    """Answer of a method to a batch of ``B`` problems."""

    log_density: Callable[[Tensor], Tensor]  # at points (B, P, d); returns (B, P)
    kernels: int  # number of kernels of the density, which determines the memory
    mixture: GaussianMixture | None = None  # the answer, if it is a mixture
    log_evidence: Tensor | None = None  # (B,), if the method gives it
    sample_efficiency: Tensor | None = None  # (B,)


Respond = Callable[[GaussianMixture, Observations, int], MethodAnswer]


@dataclass(frozen=True)
class ComparedMethod:
    """A method that computes posteriors.

    Attributes:
        name: name in tables.
        respond: function of prior, observations and the number of the batch, which returns the answer.
        batch: number of problems at once.
        costly: whether it may be limited to the first problems.
    """

    name: str
    respond: Respond
    batch: int = 256
    costly: bool = False


def network_alone(network: DistributionTransformer, components: int) -> ComparedMethod:
    """Return the network alone, in float32, without reduction, check and refinement."""

    def respond(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
        parameter = next(network.parameters())
        kind, device = parameter.dtype, parameter.device
        tokens = duplicate_components(prior.to(dtype=kind, device=device), components)
        with torch.inference_mode():
            estimate = network(tokens, observations.to(dtype=kind, device=device))
        log_weights, means, factors = (part.to("cpu", torch.float64) for part in estimate)
        return of_mixture(GaussianMixture(log_weights, means, factors @ factors.mT).normalised())

    return ComparedMethod(f"network, K = {components}", respond)


def updated(network: DistributionTransformer, settings: UpdateSettings, name: str) -> ComparedMethod:
    """Return the update of a worker."""
    updater = Updater(network, settings=settings)

    def respond(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
        update = updater.update(prior, observations)
        answer = of_mixture(update.posterior)
        return answer._replace(log_evidence=update.log_evidence, sample_efficiency=update.sample_efficiency)

    return ComparedMethod(name, respond)


def of_mixture(mixture: GaussianMixture) -> MethodAnswer:
    """Return the answer that a mixture gives."""
    return MethodAnswer(mixture.log_density, mixture.components, mixture)


def ours(network: DistributionTransformer, components: Sequence[int]) -> list[ComparedMethod]:
    """Return the network alone, and checked and refined, for each number of components."""
    alone = [network_alone(network, number) for number in components]
    checked = [
        updated(network, UpdateSettings(components=number), f"checked and refined, K = {number}")
        for number in components
    ]
    return alone + checked


def baselines() -> list[ComparedMethod]:
    """Return the extended and unscented Kalman filters with gates, the Gaussian sum, and particle filters."""
    return [
        ComparedMethod("EKF", _extended),
        ComparedMethod("UKF", _unscented),
        gaussian_sum(),
        *(ComparedMethod(f"particle filter {n:,}", _particles(n), 8, costly=True) for n in PARTICLES),
    ]


def gaussian_sum() -> ComparedMethod:
    """Return the Gaussian-sum filter, with iterated linearisation and a model of outliers."""

    def respond(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
        return of_mixture(gaussian_sum_update(prior, observations))

    return ComparedMethod("iterated Gaussian-sum EKF", respond)


def _extended(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
    belief = ExtendedKalmanFilter(*prior.moments())
    belief.update(observations)
    return of_mixture(belief.mixture())


def _unscented(prior: GaussianMixture, observations: Observations, _: int) -> MethodAnswer:
    belief = UnscentedKalmanFilter(*prior.moments())
    belief.update(observations)
    return of_mixture(belief.mixture())


def _particles(count: int) -> Respond:
    def respond(prior: GaussianMixture, observations: Observations, number: int) -> MethodAnswer:
        belief = ParticleFilter(prior, count, torch.Generator().manual_seed(number))
        belief.update(observations)
        return MethodAnswer(belief.density().log_density, count)

    return respond
