"""Search for the modes of a posterior, from many starts.

Gauss-Newton images start inside the prior and treat all observations as inliers. That is enough while a sensor is
nearly linear over the prior. With a prior of a kilometre and ranges good to a decimetre, such walks miss modes. This
search also starts around each sensor, at the reported distance or along the reported direction. It takes damped steps
(D. W. Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", SIAM J. 11(2), 1963). The first
use the weights of P. J. Huber ("Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1),
1964), which resist outliers; the later ones use the posterior's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, RANGE, Observations, Residuals
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import (
    LOG_TWO_PI,
    GaussianMixture,
    beside,
    component_log_densities,
)
from beliefstream.inference.mixtures.native_tensors import is_native
from beliefstream.inference.network.transformer import spread_points
from beliefstream.inference.update import native_climb
from beliefstream.inference.update.importance import local_covariances, ranks, with_one_left_out
from beliefstream.inference.update.native_climb import HUBER, LEVEL
from beliefstream.inference.update.nearly_linear import missed
from beliefstream.inference.update.scaled_problem import Scaled

STARTS = 8  # around each sensor
FIRST_ROUNDS, ROBUST_ROUNDS, LAST_ROUNDS = 6, 8, 6  # only the best starts take part in the second and third
# share of the images' weight that is spread evenly; no simple fraction, or points would fall on borders between images,
# and rounding would decide
EVENLY = 0.4183
ALIKE = 1e-4  # nats
APART = 1.0  # squared Mahalanobis distance within which two peaks count as one
FARTHEST = 4.0  # how far to follow a direction, in distances of the prior from the sensor


class Modes(NamedTuple):
    """The peaks found, ``M`` for each problem."""

    laplace: (
        GaussianMixture  # weighted by their evidence; includes the prior, for all observations as outliers
    )
    images: GaussianMixture  # only the peaks, weak ones too


def bend(problem: Scaled) -> Tensor:
    """Nonlinearity of the observations over the prior, in standard deviations of their noise, the largest: ``(B,)``.

    It is the maximum of three numbers. First, the curvature of a residual over one standard deviation of a component.
    Second, the error of a linear model at two, as a function may be flat or straight just at a mean. Third, if the
    noise is not one Gaussian, the spread of the expected value in its narrowest component.
    """
    prior, observations, linear = problem.prior, problem.observations, problem.linear
    size = linear.curvature.square().sum((-1, -2)).sqrt()
    if observations.functions is not None:
        beyond = missed(prior, observations, linear.residuals.signed, linear.slope).sqrt()
        size = torch.maximum(size, torch.where(observations.functions.present[:, None], beyond, 0.0))
    if observations.mixture is not None:
        ratio = torch.where(
            observations.mixture.log_weights > -math.inf, observations.mixture.ratio, math.inf
        )
        narrow = observations.standard_deviation * ratio.amin(-1)
        spread = linear.information.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
        spread = spread * linear.residuals.deviation / narrow[:, None]
        size = torch.maximum(size, torch.where(observations.is_irregular[:, None], spread, 0.0))
    size = torch.where(observations.mask[:, None], torch.nan_to_num(size, nan=math.inf), 0.0)
    return torch.where(problem.prior.present, size.amax(2), 0.0).amax(1)


def search(
    prior: GaussianMixture, observations: Observations, images: GaussianMixture, count: int
) -> GaussianMixture:
    """The `count` best peaks of the posterior, reached by damped steps from `images` and from around the sensors.

    Their weights are their evidence, not normalised. Some may repeat a peak.
    """
    mean, _ = prior.moments()
    observations = ordered(observations, mean)
    # absent components come last and start at the mean, so that their number does not matter
    own = torch.where(prior.present[..., None], prior.means, mean[:, None])
    starts = torch.cat([images.means, _around_sensors(prior, observations), own, mean[:, None]], 1)
    climb = Climb.of(prior, observations, starts)
    points = climb.walk(starts, FIRST_ROUNDS, robust=True)
    covariances = local_covariances(points, climb.covariances, observations)
    best = distinct(points, la.cholesky(covariances), climb.promise(points), count)
    climb, points = climb.places(best), points.gather(1, best[..., None].expand(-1, -1, points.shape[-1]))
    points = climb.walk(points, ROBUST_ROUNDS, robust=True)
    return laplace(prior, climb, climb.walk(points, LAST_ROUNDS, robust=False))


def laplace(prior: GaussianMixture, climb: Climb, points: Tensor) -> GaussianMixture:
    """Gaussians at `points` ``(B, S, d)``, weighted by their evidence as peaks; not normalised."""
    found = local_covariances(points, climb.covariances, climb.observations)
    height = prior.log_density(points) + climb.observations.log_likelihood(points)
    volume = la.log_diagonal(la.cholesky(found)) + 0.5 * points.shape[-1] * LOG_TWO_PI
    return GaussianMixture(torch.nan_to_num(height + volume, nan=-math.inf), points, found)


def modes(prior: GaussianMixture, observations: Observations, peaks: GaussianMixture) -> Modes:
    """The distinct ones of `peaks` as a mixture, and as images."""
    count, peaks = peaks.components, _without_repeated(peaks)
    outliers = prior.scaled_by(observations.log_likelihood(prior.means))
    share = torch.nan_to_num(torch.softmax(peaks.log_weights, 1), nan=1 / count)  # where no peak has a height
    share = (1 - EVENLY) * share + EVENLY / count
    return Modes(
        beside([peaks, outliers]).normalised(),
        GaussianMixture(share.log(), peaks.means, peaks.covariances),
    )


def ordered(observations: Observations, near: Tensor) -> Observations:
    """Sort observations by falling residuals at `near`, so that the starts do not depend on their order."""
    row, order = torch.arange(len(near), device=near.device)[:, None], ranks(observations, near).argsort(1)
    return observations.map(lambda tensor: tensor[row, order])


def _around_sensors(prior: GaussianMixture, observations: Observations) -> Tensor:
    """Places that fit one observation each, and are near the prior's mean otherwise, ``(B, S, d)``."""
    batch, number, rows, size = observations.matrix.shape
    each = STARTS  # independent of the number of places in the batch
    mean, covariance = prior.moments()
    relative = la.times(observations.matrix, mean[:, None]) - observations.origin
    seen = (observations.matrix != 0).any(-1)
    ways = spread_points(number * each, rows).to(mean).view(number, each, rows) * seen[:, :, None]
    ways = ways / la.norm(ways, True).clamp_min(1e-9)
    ring = ways * observations.value[..., 0].abs()[..., None, None]
    wanted = torch.where((observations.kind == RANGE)[..., None, None], ring, relative[:, :, None])
    if observations.has_angles:
        direction = observations.value[..., 0] + (observations.heading * mean[:, None]).sum(-1)
        reach = torch.maximum(la.norm(relative), la.trace(covariance)[:, None].sqrt())
        steps = FARTHEST ** torch.linspace(-1, 1, each, dtype=mean.dtype, device=mean.device)
        along = relative[:, :, None].repeat(1, 1, each, 1)
        distance = reach[..., None] * steps
        along[..., 0] = distance * direction.cos()[..., None]
        along[..., 1] = distance * direction.sin()[..., None]
        wanted = torch.where((observations.kind == ANGLE)[..., None, None], along, wanted)
    back = torch.linalg.pinv(observations.matrix)
    places = mean[:, None, None] + la.times(back[:, :, None], wanted - relative[:, :, None])
    useful = observations.mask & ((observations.kind == RANGE) | (observations.kind == ANGLE))
    places = torch.where(useful[..., None, None], places, mean[:, None, None])
    return places.reshape(batch, number * each, size)


@dataclass(frozen=True)
class Climb:
    """Damped Gauss-Newton steps; each start ``(B, S)`` keeps the prior component that it lies in."""

    source: Tensor
    means: Tensor
    covariances: Tensor
    factors: Tensor  # of the covariances
    whitening: Tensor  # their inverses
    used: Tensor  # which observations the robust steps use, as a float (B, S, N)
    observations: Observations

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations, starts: Tensor) -> Climb:
        source = component_log_densities(prior, prior.factors(), starts).argmax(1)
        own = prior.places(source)
        factors = la.cholesky(own.covariances, torch.finfo(starts.dtype).tiny)
        # as many observations as unknowns fit anything, and Huber's loss would always leave out the same one
        used = with_one_left_out(observations, prior.moments()[0], starts.shape[1])
        return cls(source, own.means, own.covariances, factors, la.invert_lower(factors), used, observations)

    def places(self, index: Tensor) -> Climb:
        """The starts at `index` ``(B, J)``."""
        row = torch.arange(len(index), device=index.device)[:, None]
        return Climb(
            self.source[row, index],
            self.means[row, index],
            self.covariances[row, index],
            self.factors[row, index],
            self.whitening[row, index],
            self.used[row, index],
            self.observations,
        )

    def walk(self, points: Tensor, rounds: int, robust: bool) -> Tensor:
        """Walk from `points` ``(B, S, d)``; rejects steps that lead away from the peak.

        Steps are taken in the frame of the prior's factors, so they do not depend on the units of a coordinate.
        """
        if is_native(points, self.factors) and self.observations.native is not None:
            frames = self.means, self.factors, self.whitening, self.used
            found: Tensor = native_climb.walk(self.observations.native, points, frames, rounds, robust)
            return found
        return self.walk_by_operators(points, rounds, robust)

    def walk_by_operators(self, points: Tensor, rounds: int, robust: bool) -> Tensor:
        """As `walk`, by PyTorch's operators, for any kind of observation."""
        identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
        used = self.used if robust else self.observations.mask[:, None].to(points.dtype)
        now = self._cost(points, robust)
        damping = torch.full_like(now, 1e-3)
        for _ in range(rounds):
            linear = self.observations.linearise(points, self.factors)
            inlier = HUBER / linear.residuals.squared.sqrt().clamp_min(HUBER)
            if self.observations.likelihoods is not None:
                inlier = torch.where(self.observations.likelihoods.present[:, None], 1.0, inlier)
            weight = used * (inlier if robust else self.observations.weights(linear.residuals.log_odds))
            total = identity + (linear.information * weight[..., None, None]).sum(2)
            pull = la.times(self.whitening, self.means - points)
            pull = pull + (linear.gradient * weight[..., None]).sum(2)
            damped = total + (damping * la.trace(total))[..., None, None] * identity
            step = la.times(la.invert(damped, torch.finfo(points.dtype).tiny), pull)
            moved = points + la.times(self.factors, step)
            then = self._cost(moved, robust)
            better = then < now + LEVEL
            points = torch.where(better[..., None], moved, points)
            now = torch.where(better, then, now)
            damping = torch.where(better, 0.1 * damping, 10 * damping).clamp(1e-12, 1e6)
        return points

    def promise(self, points: Tensor) -> Tensor:
        """Score that is higher where a peak is likelier nearby, ``(B, S)``: all observations under Cauchy noise."""
        residuals = self.observations.residuals(points)
        loss = self._plain(torch.log1p(residuals.squared), residuals)
        fit = (loss * self.observations.mask[:, None]).sum(2)
        return -fit - 0.5 * self._distance(points)

    def _plain(self, loss: Tensor, residuals: Residuals) -> Tensor:
        """`loss` ``(B, S, N)``, but minus the log likelihood for problems, which have no outliers to resist."""
        likelihoods = self.observations.likelihoods
        if likelihoods is None:
            return loss
        return torch.where(likelihoods.present[:, None], -residuals.log_likelihood, loss)

    def _cost(self, points: Tensor, robust: bool) -> Tensor:
        """Minus the log posterior up to a constant, or with Huber's loss in place of the noise, ``(B, S)``."""
        residuals = self.observations.residuals(points)
        if robust:
            size = residuals.squared.sqrt()
            loss = torch.where(size < HUBER, 0.5 * residuals.squared, HUBER * (size - 0.5 * HUBER))
            loss = self._plain(loss, residuals) * self.used
        else:
            loss = -residuals.log_likelihood * self.observations.mask[:, None]
        return loss.sum(2) + 0.5 * self._distance(points)

    def _distance(self, points: Tensor) -> Tensor:
        """Squared Mahalanobis distance from the mean of each point's prior component, ``(B, S)``."""
        return la.squared_norm(la.times(self.whitening, points - self.means))


def distinct(points: Tensor, factors: Tensor, height: Tensor, count: int) -> Tensor:
    """Indices ``(B, count)`` of the highest distinct peaks, then of the highest of the rest."""
    row = torch.arange(len(points), device=points.device)
    # starts on the same peak differ only by rounding, which must not decide
    left, chosen = torch.nan_to_num(height / ALIKE, nan=-math.inf).round().clamp_min(-1e30), []
    inverse = la.invert_lower(factors)
    for _ in range(count):
        best = left.argmax(1)
        chosen.append(best)
        offset = points - points[row, best][:, None]
        distance = la.squared_norm(la.times(inverse[row, best][:, None], offset))
        left = torch.where(distance < APART, left - 1e30, left)
        left[row, best] = -math.inf
    return torch.stack(chosen, 1)


def _without_repeated(peaks: GaussianMixture) -> GaussianMixture:
    """Drop the weight of repeated peaks: only the first start on a peak keeps it."""
    inverse = la.invert_lower(peaks.factors())
    offset = peaks.means[:, :, None] - peaks.means[:, None]  # of the first from the second
    near = la.squared_norm(la.times(inverse[:, None], offset)) < APART
    above = peaks.log_weights[:, None] - peaks.log_weights[:, :, None]  # of the second over the first
    highest = ~(near & (above > ALIKE)).any(2)
    order = torch.arange(peaks.components, device=near.device)
    earlier = highest[:, None] & (above.abs() <= ALIKE) & (order < order[:, None])
    repeated = ~highest | (near & earlier).any(2)
    return GaussianMixture(
        torch.where(repeated, -math.inf, peaks.log_weights), peaks.means, peaks.covariances
    )
