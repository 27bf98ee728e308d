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

from beliefstream.inference.likelihood.native_terms import (
    WIDE_OUTLIER,
    Seen,
    Shapes,
    Space,
    linearise_at,
    log_sum,
    new_space,
    relative_to,
    smallest,
    terms_and_deviation,
)
from beliefstream.inference.likelihood.observations import LIKELIHOOD, LINEAR, Observations
from beliefstream.inference.likelihood.problem_functions import IMPOSSIBLE
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, component_log_densities
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import (
    ROUNDING,
    TINY,
    factorise,
    invert_one,
    put_matrix,
    put_vector,
)

Array = NDArray[np.float64]

HUBER = 1.5  # standard deviations; Huber's own choice lies between 1 and 2
LEVEL = 1e-7  # nats; a step that changes less is accepted, as rounding decides at the peak, and is the last
NO_PROBLEMS = np.zeros((0, 0, 0)), np.zeros((0, 0, 0, 0)), np.zeros((0, 0, 0, 0, 0))
FIRST = 1e-3  # damping; ten times as much after a failed step, and a tenth after another, as Marquardt's


class Starts(NamedTuple):
    """What each start ``(B, S)`` keeps while it walks: its prior component, and the observations that count there."""

    means: Array  # (B, S, d)
    factors: Array  # (B, S, d, d)
    whitening: Array
    share: Array  # of each observation in the cost, (B, S, N)
    # of problems, which compiled code cannot evaluate; empty without them
    value: Array  # log likelihood, (B, S, N)
    gradient: Array  # (B, S, N, d)
    information: Array  # (B, S, N, d, d)


class State(NamedTuple):
    """Where each start ``(B, S)`` is."""

    point: Array  # (B, S, d)
    moved: Array  # (B, S, d), after the next step
    cost: Array
    damping: Array
    total: Array  # A at the point, (B, S, d, d)
    pull: Array  # right side of the step, (B, S, d)


class Place(NamedTuple):
    """A start."""

    b: int
    s: int
    seen: int  # its row of `Seen`


class Step(NamedTuple):
    """Space for one step."""

    space: Space
    shapes: Shapes
    total: Array  # (d, d), as the next two
    factor: Array
    inverse: Array
    pull: Array  # (d,), as the next
    move: Array


def prepare() -> None:
    """Compile the walk, or load it from Numba's cache."""
    seen, point, _ = smallest()
    one, at = np.ones((1, 1, 1)), array(point)
    state = State(at.copy(), at.copy(), one[0].copy(), one[0].copy(), one[None].copy(), one.copy())
    _walk(seen, Starts(at, one[None], one[None], one, *NO_PROBLEMS), True, 1, False, state)


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
        frame, shape = (array(self.means), array(self.factors), array(self.whitening)), points.shape
        used = self.used if robust else self.observations.mask[:, None].double().expand_as(self.used)
        share, given = array(used), array(points)
        state = State(
            given.copy(), given.copy(), np.full(shape[:2], math.inf), np.full(shape[:2], 10 * FIRST),
            np.zeros((*shape, shape[2])), np.zeros(shape),
        )  # fmt: skip
        numbers = self.observations.native
        if numbers is not None:
            _walk(numbers, Starts(*frame, share, *NO_PROBLEMS), robust, rounds + 1, True, state)
            return torch.from_numpy(state.point)
        for left in reversed(range(rounds + 1)):
            at = torch.from_numpy(state.moved)
            numbers, _ = self.observations.at(at, left > 0)
            starts = Starts(*frame, share, *self._of_problems(at))
            _walk(numbers, starts, robust, 1, left == 0, state)
        return torch.from_numpy(state.point)

    def _of_problems(self, points: Tensor) -> tuple[Array, Array, Array]:
        """Log likelihoods of problems, with their derivatives in the starts' frames."""
        likelihoods = self.observations.likelihoods
        if likelihoods is None:
            return NO_PROBLEMS
        matrix = self.observations.matrix[:, None] @ self.factors[:, :, None]
        near = likelihoods.quadratic(self.observations.relative(points), matrix)
        return array(near.value.clamp_min(IMPOSSIBLE)), array(near.gradient), array(near.information)

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
def _walk(seen: Seen, starts: Starts, robust: bool, rounds: int, is_last: bool, state: State) -> None:
    """So many rounds of every start: go to where it has moved if that costs less, then take the next step.

    No step follows the last round if `is_last`. Where functions of the user are tabulated, `seen` has each start as an
    entity of its own.
    """
    count, size = state.point.shape[1:]
    each = len(seen.kind) > len(state.point)
    vectors, matrices = np.empty((4, size)), np.empty((5, size, size))
    shapes = (vectors[0], matrices[0], matrices[1], vectors[1])
    step = Step(new_space(seen), shapes, matrices[2], matrices[3], matrices[4], vectors[2], vectors[3])
    for b in range(len(state.point)):
        for s in range(count):
            place = Place(b, s, b * count + s if each else b)
            for turn in range(rounds):
                ends = is_last and turn + 1 == rounds
                cost = _cost(seen, starts, place, state.moved[b, s], robust, ends, step)
                better = cost < state.cost[b, s] + LEVEL
                state.damping[b, s] *= 0.1 if better else 10.0
                if better:
                    state.cost[b, s] = cost
                    put_vector(state.point[b, s], state.moved[b, s])
                    put_vector(state.pull[b, s], step.pull)
                    put_matrix(state.total[b, s], step.total)
                if ends or _move(starts, place, state, step) < LEVEL:
                    break


@borrowing
def _cost(
    seen: Seen, starts: Starts, place: Place, point: Array, robust: bool, ends: bool, step: Step
) -> float:
    """Minus the log posterior up to a constant, or with Huber's loss in place of the noise; fills A and right side.

    Without a step to come, where it `ends`, these are not needed.
    """
    (b, s, row), space, shapes, total, pull = place, step.space, step.shapes, step.total, step.pull
    cost = 0.0
    for i in range(len(point)):
        pull[i] = 0.0
        for j in range(len(point)):
            pull[i] += starts.whitening[b, s, i, j] * (starts.means[b, s, j] - point[j])
            total[i, j] = 1.0 if i == j else 0.0
        cost += 0.5 * pull[i] * pull[i]
    for n in range(seen.kind.shape[1]):
        share = starts.share[b, s, n]
        if share == 0.0:
            continue
        if seen.kind[row, n] == LIKELIHOOD:
            cost -= share * starts.value[b, s, n]
            if not ends:
                _add(share, starts.gradient[b, s, n], starts.information[b, s, n], total, pull)
            continue
        if ends:
            distance = relative_to(seen, row, n, point, space.relative)
            terms, _ = terms_and_deviation(seen, row, n, point, space.relative, distance)
        else:
            terms, _ = linearise_at(seen, row, n, point, starts.factors[b, s], space, shapes)
        _, squared, inlier, outlier = terms
        if not robust:
            cost -= share * log_sum(inlier, outlier)
        elif squared < HUBER * HUBER:
            cost += share * 0.5 * squared
        else:
            cost += share * HUBER * (math.sqrt(squared) - 0.5 * HUBER)
        if not ends:
            weight = _weight(seen.kind[row, n] == LINEAR, squared, inlier - outlier, robust)
            _add(share * weight, shapes[0], shapes[1], total, pull)
    return cost


@borrowing
def _add(weight: float, gradient: Array, information: Array, total: Array, pull: Array) -> None:
    for i in range(len(pull)):
        pull[i] += weight * gradient[i]
        for j in range(len(pull)):
            total[i, j] += weight * information[i, j]


@borrowing
def _weight(is_linear: bool, squared: float, log_odds: float, robust: bool) -> float:
    """The share of an observation's information that counts."""
    if robust:
        return HUBER / max(math.sqrt(squared), HUBER)
    share = 1 / (1 + math.exp(-log_odds))
    # an outlier of a linear sensor has ten times the standard deviation
    return share + (1 - share) / WIDE_OUTLIER**2 if is_linear else share


@borrowing
def _move(starts: Starts, place: Place, state: State, step: Step) -> float:
    """Fill the point after the next step of a start; returns what it gains in a linear model, nats."""
    b, s, _ = place
    square, factor, inverse, move = step.total, step.factor, step.inverse, step.move
    size, total, pull = len(move), state.total[b, s], state.pull[b, s]
    trace = 0.0
    for i in range(size):
        trace += total[i, i]
    for i in range(size):
        for j in range(size):
            square[i, j] = total[i, j]
        square[i, i] += state.damping[b, s] * trace
    factorise(square, TINY, ROUNDING, factor)
    invert_one(factor, inverse)
    gained = 0.0
    for i in range(size):
        move[i] = 0.0
        for k in range(i, size):
            offset = 0.0
            for j in range(k + 1):
                offset += inverse[k, j] * pull[j]
            move[i] += inverse[k, i] * offset
        gained += move[i] * pull[i]
    for i in range(size):
        state.moved[b, s, i] = state.point[b, s, i]
        for j in range(size):
            state.moved[b, s, i] += starts.factors[b, s, i, j] * move[j]
    return gained
