"""Walks to the peaks of a posterior, and Gaussians there.

A start x walks by damped Gauss-Newton steps (D. W. Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear
Parameters", SIAM J. 11(2), 1963). In the frame ``x = m + L y`` of its prior component ``N(m, L Lᵀ)``, with gradients
g_n and informations M_n of the observations there and their weights w_n, a step is

    (A + λ tr A · I)⁻¹ (L⁻¹ (m − x) + Σ w_n g_n),    A = I + Σ w_n M_n.

Robust walks take weights and loss of P. J. Huber ("Robust Estimation of a Location Parameter", Annals of Mathematical
Statistics 35(1), 1964), which resist outliers; others take those of the posterior. All kinds of observations give
gradient and information as arrays, functions of the user by `torch.func`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import WIDE_OUTLIER
from beliefstream.inference.likelihood.observations import LINEAR, Observations, Residuals
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, component_log_densities
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise, invert_one

Array = NDArray[np.float64]
Bits = NDArray[np.bool_]

HUBER = 1.5  # standard deviations; Huber's own choice lies between 1 and 2
LEVEL = 1e-7  # nats; a step that changes less is accepted, as rounding decides at the peak
FIRST = 1e-3  # damping; ten times as much after a failed step, and a tenth after another, as Marquardt's


class Terms(NamedTuple):
    """The observations at each start ``(B, S, N)``, and what they are."""

    squared: Array
    log_odds: Array
    log_likelihood: Array
    used: Array  # share of each that counts in the cost
    is_problem: Bits  # (B, N): has a likelihood alone, and no residual to be robust about
    is_linear: Bits  # (B, N)


class State(NamedTuple):
    """Where each start ``(B, S)`` is."""

    point: Array  # (B, S, d)
    moved: Array  # (B, S, d), after the next step
    cost: Array
    damping: Array
    better: Bits  # whether the last step was accepted
    total: Array  # A at the point, (B, S, d, d)
    pull: Array  # right side of the step, (B, S, d)


class Frames(NamedTuple):
    """The prior component of each start ``(B, S)``."""

    means: Array
    factors: Array
    whitening: Array


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one, yes = np.ones((1, 1, 1)), np.ones((1, 1), np.bool_)
    terms = Terms(one, one, one, one, yes, yes)
    state = State(
        one.copy(), one.copy(), one[0].copy(), one[0].copy(), yes.copy(), one[None].copy(), one.copy()
    )
    frames = Frames(one, one[None], one[None])
    _accept(terms, frames, True, state)
    _step(terms, (one[None], one[None, None]), frames, True, state)


@dataclass(frozen=True)
class Climb:
    """Walks of starts ``(B, S)``, each in the frame of the prior component that it lies in."""

    means: Tensor
    covariances: Tensor
    factors: Tensor  # of the covariances
    whitening: Tensor  # their inverses
    used: Tensor  # which observations the robust steps use, as a float (B, S, N)
    observations: Observations

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations, starts: Tensor) -> Climb:
        own = prior.places(component_log_densities(prior, prior.factors(), starts).argmax(1))
        factors = la.cholesky(own.covariances, torch.finfo(starts.dtype).tiny)
        # as many observations as unknowns fit anything, and Huber's loss would always leave out the same one
        used = with_one_left_out(observations, prior.moments()[0], starts.shape[1])
        return cls(own.means, own.covariances, factors, la.invert_lower(factors), used, observations)

    def places(self, index: Tensor) -> Climb:
        """The starts at `index` ``(B, J)``."""
        row = torch.arange(len(index))[:, None]
        return Climb(
            self.means[row, index],
            self.covariances[row, index],
            self.factors[row, index],
            self.whitening[row, index],
            self.used[row, index],
            self.observations,
        )

    def walk(self, points: Tensor, rounds: int, robust: bool) -> Tensor:
        """Walk from `points` ``(B, S, d)``; rejects steps that lead away from the peak."""
        frames, shape = Frames(*map(array, (self.means, self.factors, self.whitening))), points.shape
        state = State(
            array(points).copy(), array(points).copy(), np.full(shape[:2], math.inf), np.full(shape[:2], 10 * FIRST),
            np.zeros(shape[:2], np.bool_), np.zeros((*shape, shape[2])), np.zeros(shape),
        )  # fmt: skip
        for left in reversed(range(rounds + 1)):
            at = torch.from_numpy(state.moved)
            linear = self.observations.linearise(at, self.factors) if left else None
            residuals = self.observations.residuals(at) if linear is None else linear.residuals
            terms = self._terms(residuals, robust)
            _accept(terms, frames, robust, state)
            if linear is not None:
                _step(terms, (array(linear.gradient), array(linear.information)), frames, robust, state)
        return torch.from_numpy(state.point)

    def _terms(self, residuals: Residuals, robust: bool) -> Terms:
        observations = self.observations
        linear = observations.kind == LINEAR
        problem, used = torch.zeros_like(linear), self.used
        if not robust:
            used = observations.mask[:, None].double().expand_as(used)
        if observations.likelihoods is not None:
            problem = observations.likelihoods.present
        return Terms(
            array(residuals.squared),
            array(residuals.log_odds),
            array(residuals.log_likelihood),
            array(used),
            problem.numpy(),
            linear.numpy(),
        )

    def promise(self, points: Tensor) -> Tensor:
        """Score that is higher where a peak is likelier nearby, ``(B, S)``: all observations under Cauchy noise."""
        residuals, likelihoods = self.observations.residuals(points), self.observations.likelihoods
        loss = torch.log1p(residuals.squared)
        if likelihoods is not None:
            loss = torch.where(likelihoods.present[:, None], -residuals.log_likelihood, loss)
        distance = la.squared_norm(la.times(self.whitening, points - self.means))
        return -(loss * self.observations.mask[:, None]).sum(2) - 0.5 * distance


def laplace(prior: GaussianMixture, climb: Climb, points: Tensor) -> GaussianMixture:
    """Gaussians at `points` ``(B, S, d)``, weighted by their evidence as peaks; not normalised."""
    covariances = local_covariances(points, climb.covariances, climb.observations)
    return peaks_at(prior, climb.observations, points, covariances)


def peaks_at(
    prior: GaussianMixture, observations: Observations, points: Tensor, covariances: Tensor
) -> GaussianMixture:
    """Gaussians with the posterior's density at `points`: Laplace's approximation; their weights are not normalised."""
    height = prior.log_density(points) + observations.log_likelihood(points)
    volume = la.log_diagonal(la.cholesky(covariances)) + 0.5 * points.shape[-1] * LOG_TWO_PI
    return GaussianMixture(torch.nan_to_num(height + volume, nan=-math.inf), points, covariances)


def ordered(observations: Observations, near: Tensor) -> Observations:
    """Sort observations by falling residuals at `near`, so that the starts do not depend on their order."""
    row, order = torch.arange(len(near))[:, None], ranks(observations, near).argsort(1)
    return observations.map(lambda tensor: tensor[row, order])


def with_one_left_out(observations: Observations, near: Tensor, count: int) -> Tensor:
    """Which observations to use, as a float ``(B, count, N)``: all, or in turn all but one possible outlier.

    The residuals at `near` ``(B, d)`` decide the turns, so they do not depend on the observations' order.
    """
    # count the observations, not the places in the batch
    turn = torch.arange(count) % (observations.mask.sum(1, keepdim=True) + 1)
    chosen = ranks(observations, near)[:, None] + 1 == turn[..., None]
    several = (observations.mask.sum(1) > 1)[:, None]
    doubtful = (observations.outlier_probability > 0) & several
    return (observations.mask[:, None] & ~(chosen & doubtful[:, None])).to(near.dtype)


def ranks(observations: Observations, near: Tensor) -> Tensor:
    """Places ``(B, N)`` of the observations in falling order of their residuals at `near` ``(B, d)``."""
    size = observations.residuals(near[:, None]).squared[:, 0]
    size = torch.where(observations.mask, size, -1.0)
    return size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def local_covariances(points: Tensor, covariances: Tensor, observations: Observations) -> Tensor:
    """Covariances of the posterior near `points` ``(B, K, d)``, with each observation as an inlier.

    `covariances` ``(B, K, d, d)`` are those of the prior's component there.
    """
    # in the frame of the prior, where units do not matter
    factors = la.cholesky(covariances, torch.finfo(points.dtype).tiny)
    identity = torch.eye(points.shape[-1], dtype=points.dtype)
    linear = observations.linearise(points, factors)
    inlier = observations.weights(linear.residuals.log_odds.clamp(-12, 12)) * observations.mask[:, None]
    total = identity + (linear.information * inlier[..., None, None]).sum(2)
    covariance = _cut(total, linear.curvature, linear.residuals.signed.abs().clamp_min(1.0) * inlier)
    covariance = la.symmetrise(factors @ covariance @ factors.mT)
    return torch.where(covariance.isfinite().flatten(-2).all(-1)[..., None, None], covariance, covariances)


def _cut(precision: Tensor, curvature: Tensor, weight: Tensor) -> Tensor:
    """Covariance of a precision, limited to where the linearisation holds: along a ring, to where it is straight."""
    bend = ((curvature.square().sum((-1, -2)) + 1e-12).sqrt() * weight).sum(2)
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype)
    factors = la.inverse_cholesky(
        precision + bend[..., None, None] * identity, torch.finfo(precision.dtype).tiny
    )
    return factors @ factors.mT


@native
def _accept(terms: Terms, frames: Frames, robust: bool, state: State) -> None:
    """Go to where each start has moved, if that costs less."""
    for b in range(len(state.cost)):
        for s in range(len(state.cost[b])):
            then = _cost(terms, frames, b, s, state.moved[b, s], robust)
            better = then < state.cost[b, s] + LEVEL
            state.better[b, s] = better
            state.damping[b, s] *= 0.1 if better else 10.0
            if better:
                state.cost[b, s] = then
                for i in range(state.point.shape[2]):
                    state.point[b, s, i] = state.moved[b, s, i]


@borrowing
def _cost(terms: Terms, frames: Frames, b: int, s: int, point: Array, robust: bool) -> float:
    """Minus the log posterior up to a constant, or with Huber's loss in place of the noise."""
    total = 0.0
    for n in range(terms.squared.shape[2]):
        used, squared = terms.used[b, s, n], terms.squared[b, s, n]
        if used == 0.0:
            continue
        if not robust or terms.is_problem[b, n]:
            total -= used * terms.log_likelihood[b, s, n]
        elif squared < HUBER * HUBER:
            total += used * 0.5 * squared
        else:
            total += used * HUBER * (math.sqrt(squared) - 0.5 * HUBER)
    for i in range(len(point)):
        offset = 0.0
        for j in range(len(point)):
            offset += frames.whitening[b, s, i, j] * (point[j] - frames.means[b, s, j])
        total += 0.5 * offset * offset
    return total


@native
def _step(terms: Terms, linear: tuple[Array, Array], frames: Frames, robust: bool, state: State) -> None:
    """Fill the point after the next step of each start; `linear` are gradient and information where it has moved."""
    size = state.point.shape[2]
    square, factor, inverse = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    offset, step = np.empty(size), np.empty(size)
    for b in range(len(state.cost)):
        for s in range(len(state.cost[b])):
            point, total, pull = state.point[b, s], state.total[b, s], state.pull[b, s]
            if state.better[b, s]:
                _find_system(terms, linear, frames, b, s, point, robust, total, pull)
            trace = 0.0
            for i in range(size):
                trace += total[i, i]
            for i in range(size):
                for j in range(size):
                    square[i, j] = total[i, j]
                square[i, i] += state.damping[b, s] * trace
            factorise(square, TINY, ROUNDING, factor)
            invert_one(factor, inverse)
            for i in range(size):
                offset[i] = 0.0
                for j in range(i + 1):
                    offset[i] += inverse[i, j] * pull[j]
            for i in range(size):
                step[i] = 0.0
                for j in range(i, size):
                    step[i] += inverse[j, i] * offset[j]
            for i in range(size):
                state.moved[b, s, i] = point[i]
                for j in range(size):
                    state.moved[b, s, i] += frames.factors[b, s, i, j] * step[j]


@borrowing
def _find_system(
    terms: Terms,
    linear: tuple[Array, Array],
    frames: Frames,
    b: int,
    s: int,
    point: Array,
    robust: bool,
    total: Array,
    pull: Array,
) -> None:
    """Fill the matrix A and the right side of a step, without damping."""
    for i in range(len(point)):
        pull[i] = 0.0
        for j in range(len(point)):
            pull[i] += frames.whitening[b, s, i, j] * (frames.means[b, s, j] - point[j])
            total[i, j] = 1.0 if i == j else 0.0
    for n in range(terms.squared.shape[2]):
        if terms.used[b, s, n] == 0.0:
            continue
        weight = terms.used[b, s, n] * _weight(terms, b, s, n, robust)
        for i in range(len(point)):
            pull[i] += linear[0][b, s, n, i] * weight
            for j in range(len(point)):
                total[i, j] += linear[1][b, s, n, i, j] * weight


@borrowing
def _weight(terms: Terms, b: int, s: int, n: int, robust: bool) -> float:
    """The share of an observation's information that counts."""
    if robust:
        root = math.sqrt(terms.squared[b, s, n])
        return 1.0 if terms.is_problem[b, n] else HUBER / max(root, HUBER)
    share = 1 / (1 + math.exp(-terms.log_odds[b, s, n]))
    # an outlier of a linear sensor has ten times the standard deviation
    return share + (1 - share) / WIDE_OUTLIER**2 if terms.is_linear[b, n] else share
