"""Exact posteriors in any dimension by annealed sequential Monte Carlo, with an error estimate of the evidence.

A population moves from the prior to the posterior through ``prior × likelihoodᵗ``, with t from 0 to 1. Each step raises
t as far as the weights allow, resamples, and applies Markov moves that leave the tempered density invariant (Del Moral,
Doucet and Jasra, "Sequential Monte Carlo samplers", JRSS B 68(3), 2006; t by sample efficiency after Jasra et al.,
Scand. J. Statistics 38(1), 2011). There are three kinds of moves. Independent draws come from a mixture fitted to the
population, with a share of the prior. Differences of two other particles, also unscaled, jump between modes (ter Braak,
"A Markov chain Monte Carlo version of the genetic algorithm Differential Evolution", Statistics and Computing 16,
2006). Random walks have the covariance of a component of the fitted mixture.

At the posterior, the population is drawn again by importance sampling from the fitted mixture. So the masses of distant
modes do not depend on the few particles that reached them. The evidence comes from bridge sampling between the
particles and draws of a mixture fitted to other particles (Meng and Wong, "Simulating ratios of normalizing constants
via a simple identity", Statistica Sinica 6, 1996), which is much more accurate than the product of the mean weights.
Each problem has several independent runs; their differences give the error estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters.particle import systematic
from research.evaluation.exact.fitting import Proposal, fit, improve

RUNS = 4  # number of populations per problem
_KEPT = 0.5  # effective share of the sample after a temperature step
_COMPONENTS = 16  # number of components of the fitted mixture
_LAST_ROUNDS = 3  # rounds of moves at the posterior itself
_BRIDGE_ROUNDS = 30
_DRAWS_A_PARTICLE = 4  # number of draws of the fitted mixture per particle, for bridge sampling
_VALUES_AT_ONCE = 300_000  # number of predicted values in memory, so that they fit the processor's cache
_SCALES = (2.4, 0.8, 0.25)  # scales of the random walk, divided by √d, used in turn


class AnnealedPosterior(NamedTuple):
    """Samples and log evidence of a batch of problems.

    Attributes:
        points: equally weighted samples, ``(B, P, d)``.
        log_density: log density of the normalised posterior at the samples, nats, ``(B, P)``.
        log_evidence: nats, ``(B,)``.
        standard_error: standard error of the log evidence, nats, ``(B,)``.
    """

    points: Tensor
    log_density: Tensor
    log_evidence: Tensor
    standard_error: Tensor


@dataclass
class _Population:
    """Particles of ``R`` runs in a row: points ``(B, R·P, d)``, other fields ``(B, R·P)``."""

    points: Tensor
    log_prior: Tensor
    log_likelihood: Tensor

    def tempered(self, temperature: Tensor) -> Tensor:
        return self.log_prior + temperature * self.log_likelihood

    def take(self, index: Tensor) -> _Population:
        """Return the particles at `index` ``(B, Q)`` of each problem."""
        where = index[..., None].expand(-1, -1, self.points.shape[-1])
        return _Population(
            self.points.gather(1, where),
            self.log_prior.gather(1, index),
            self.log_likelihood.gather(1, index),
        )

    def where(self, accepted: Tensor, other: _Population) -> _Population:
        return _Population(
            torch.where(accepted[..., None], other.points, self.points),
            torch.where(accepted, other.log_prior, self.log_prior),
            torch.where(accepted, other.log_likelihood, self.log_likelihood),
        )


class _Problem(NamedTuple):
    prior: GaussianMixture
    observations: Observations
    generator: torch.Generator

    def rows(self, index: Tensor) -> _Problem:
        return _Problem(self.prior.rows(index), self.observations.rows_of(index), self.generator)

    def at(self, points: Tensor) -> _Population:
        return _Population(points, self.prior.log_density(points), self.observations.log_likelihood(points))


def annealed_posterior(
    prior: GaussianMixture,
    observations: Observations,
    particles: int,
    generator: torch.Generator,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> AnnealedPosterior:
    """Draw exact samples and compute the log evidence of every problem of a batch, in float64 on the CPU.

    The `particles` of a problem are those of all runs; raises ValueError unless they are a multiple of `RUNS`, at least
    64 per run. `progress` is called with the number of problems done, and the total.
    """
    if particles % RUNS or particles < 64 * RUNS:
        raise ValueError(f"particles: expected a multiple of {RUNS}, at least {64 * RUNS}, got {particles}")
    double = torch.float64
    prior, observations = prior.to(dtype=double).normalised(), observations.to(dtype=double)
    places = observations.kind.shape[1] * observations.matrix.shape[2]
    at_once = max(1, _VALUES_AT_ONCE // (particles * places))
    parts = []
    for index in torch.split(torch.arange(prior.batch), at_once):
        problem = _Problem(prior.rows(index), observations.rows_of(index), generator)
        parts.append(_anneal(problem, particles // RUNS))
        progress(int(index[-1]) + 1, prior.batch)
    return AnnealedPosterior(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _anneal(problem: _Problem, particles: int) -> AnnealedPosterior:
    """Anneal the problems of a batch that fits into the cache; finished problems wait for the others."""
    batch, size = problem.prior.batch, problem.prior.dimension
    total = RUNS * particles
    finished = [torch.empty(batch, total, size, dtype=torch.float64), *torch.empty(2, batch, total).double()]
    population = problem.at(problem.prior.sample(total, problem.generator))
    fitted = fit(population.points, _COMPONENTS, 5, problem.generator)
    temperature = torch.zeros(batch, RUNS, dtype=torch.float64)
    active, left = torch.arange(batch), problem
    while len(active):
        step = _temperature_step(population.log_likelihood.view(-1, RUNS, particles), 1 - temperature)
        weight = step[..., None] * population.log_likelihood.view(-1, RUNS, particles)
        temperature = torch.where(step == 1 - temperature, 1.0, temperature + step)
        population = population.take(_resampled(weight, problem.generator))
        fitted = improve(fitted, population.points, 2, problem.generator)
        level = temperature.repeat_interleave(particles, 1)
        population = _moved(left, population, level, Proposal(fitted, left.prior))
        done = (temperature == 1).all(1)
        if bool(done.any()):
            for target, part in zip(finished, vars(population).values(), strict=True):
                target[active[done]] = part[done]
            rest = torch.nonzero(~done)[:, 0]
            left, fitted, active = left.rows(rest), fitted.rows(rest), active[rest]
            population = _Population(*(part[rest] for part in vars(population).values()))
            temperature = temperature[rest]
    return _finish(problem, _Population(*finished))


def _temperature_step(log_likelihood: Tensor, room: Tensor) -> Tensor:
    """Return the largest step that keeps the sample efficiency, at most `room`, ``(B, R)``."""
    least = _KEPT * log_likelihood.shape[-1]

    def size(step: Tensor) -> Tensor:
        weight = torch.log_softmax(step[..., None] * log_likelihood, -1)
        return (-torch.logsumexp(2 * weight, -1)).exp()

    low, high = torch.zeros_like(room), room.clone()
    enough = size(high) >= least
    for _ in range(25):
        middle = torch.where(high > 1e-3, 0.5 * (low + high), (low.clamp_min(1e-12) * high).sqrt())
        fits = size(middle) >= least
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return torch.where(enough, room, torch.maximum(low, 1e-9 * room))


def _resampled(log_weight: Tensor, generator: torch.Generator) -> Tensor:
    """Resample each run systematically by `log_weight` ``(B, R, P)``, and return indices ``(B, R·P)``."""
    batch, runs, count = log_weight.shape
    index = systematic(torch.softmax(log_weight, -1), generator)
    return (index + count * torch.arange(runs)[:, None]).view(batch, -1)


def _moved(problem: _Problem, population: _Population, level: Tensor, proposal: Proposal) -> _Population:
    """Apply one round of all moves at the powers `level` ``(B, R·P)``."""
    size, count = population.points.shape[-1], population.points.shape[1]
    generator = problem.generator
    population = _independent(problem, population, level, proposal)
    for whole in (False, True):
        factor = 1.0 if whole else 2.38 / math.sqrt(2 * size)
        first, second = (int(n) for n in torch.randint(1, count, (2,), generator=generator))
        difference = population.points.roll(first, 1) - population.points.roll(second, 1)
        # small noise, so that every state can be reached
        offset = factor * difference + 0.02 * proposal.steps(count, generator)
        population = _symmetric(problem, population, level, offset)
    scales = torch.tensor(_SCALES, dtype=torch.float64) / math.sqrt(size)
    chosen = scales[torch.randint(0, len(scales), level.shape, generator=generator)]
    offset = chosen[..., None] * proposal.steps(count, generator)
    population = _symmetric(problem, population, level, offset)
    return _independent(problem, population, level, proposal)


def _symmetric(problem: _Problem, population: _Population, level: Tensor, offset: Tensor) -> _Population:
    other = problem.at(population.points + offset)
    return _accepted(problem, population, other, other.tempered(level) - population.tempered(level))


def _independent(
    problem: _Problem, population: _Population, level: Tensor, proposal: Proposal
) -> _Population:
    other = problem.at(proposal.sample(level.shape[1], problem.generator))
    gain = other.tempered(level) - population.tempered(level)
    gain = gain - proposal.log_density(other.points) + proposal.log_density(population.points)
    return _accepted(problem, population, other, gain)


def _accepted(problem: _Problem, population: _Population, other: _Population, gain: Tensor) -> _Population:
    uniform = torch.rand(gain.shape, generator=problem.generator, dtype=torch.float64)
    return population.where(uniform.log() < gain, other)


def _finish(problem: _Problem, population: _Population) -> AnnealedPosterior:
    """Draw the population again, apply the last moves at the posterior, and estimate the evidence."""
    level = torch.ones_like(population.log_prior)
    for _ in range(_LAST_ROUNDS):
        proposal = _fitted(problem, population.points)
        population = _redrawn(problem, population, proposal)
        population = _moved(problem, population, level, proposal)
    log_evidence, error = _evidence(problem, population)
    density = population.log_prior + population.log_likelihood - log_evidence[:, None]
    return AnnealedPosterior(population.points, density, log_evidence, error)


def _fitted(problem: _Problem, points: Tensor) -> Proposal:
    return Proposal(fit(points, 2 * _COMPONENTS, 8, problem.generator), problem.prior, defence=0.02)


def _redrawn(problem: _Problem, population: _Population, proposal: Proposal) -> _Population:
    """Resample draws of the proposal, because tempering with few particles may give distant modes a wrong mass."""
    batch, total = population.log_prior.shape
    drawn = problem.at(proposal.sample(_DRAWS_A_PARTICLE * total, problem.generator))
    weight = drawn.log_prior + drawn.log_likelihood - proposal.log_density(drawn.points)
    index = _resampled(weight.view(batch, RUNS, -1), problem.generator)
    return drawn.take(index[:, ::_DRAWS_A_PARTICLE])


def _evidence(problem: _Problem, population: _Population) -> tuple[Tensor, Tensor]:
    """Return log evidence and standard error, ``(B,)``; each run uses a mixture fitted to the other half of the runs.

    The mean of the importance weights may differ from the result by more than its own error. Then the runs agree on a
    wrong value, and the difference is added to the error.
    """
    batch, total = population.log_prior.shape
    half = total // 2
    joint = population.log_prior + population.log_likelihood
    bridged, plain, doubt = [], [], []
    for own, other in ((slice(0, half), slice(half, total)), (slice(half, total), slice(0, half))):
        proposal = _fitted(problem, population.points[:, other])
        drawn = problem.at(proposal.sample(_DRAWS_A_PARTICLE * half, problem.generator))
        there = drawn.log_prior + drawn.log_likelihood - proposal.log_density(drawn.points)
        here = joint[:, own] - proposal.log_density(population.points[:, own])
        shape = (batch, RUNS // 2, -1)
        bridged.append(bridge(here.reshape(shape), there.reshape(shape)))
        mean = torch.logsumexp(there, 1) - math.log(there.shape[1])
        plain.append(mean)
        doubt.append((there - mean[:, None]).exp().var(1) / there.shape[1])
    runs = torch.cat(bridged, 1)
    log_evidence = torch.logsumexp(runs, 1) - math.log(RUNS)
    apart = (torch.stack(plain).mean(0) - log_evidence).square()
    excess = (apart - 4 * torch.stack(doubt).mean(0) / 2).clamp_min(0)
    return log_evidence, (runs.var(1) / RUNS + excess).sqrt()


def bridge(here: Tensor, there: Tensor) -> Tensor:
    """Return the log ratio of two normalising constants by the optimal bridge (Meng and Wong, eq. 4.1).

    Args:
        here: ``log p̃ − log q`` at draws of p, ``(..., P)``.
        there: ``log p̃ − log q`` at draws of q, ``(..., Q)``.
    """
    counts = here.shape[-1], there.shape[-1]
    share = [math.log(count / sum(counts)) for count in counts]
    centre = there.logsumexp(-1, keepdim=True) - math.log(counts[1])
    here, there = here - centre, there - centre
    estimate = torch.zeros_like(centre)
    for _ in range(_BRIDGE_ROUNDS):
        upper = there - torch.logaddexp(share[0] + there, share[1] + estimate)
        lower = -torch.logaddexp(share[0] + here, share[1] + estimate)
        ratio = torch.logsumexp(upper, -1, keepdim=True) - torch.logsumexp(lower, -1, keepdim=True)
        estimate = ratio + math.log(counts[0] / counts[1])
    return (estimate + centre)[..., 0]
