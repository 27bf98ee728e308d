"""Closed-form update for observations that are nearly linear over the prior.

A network has an error floor that does not fall with an observation's information; over many weak observations it adds
up, always in one direction. A linearised update has no such floor: its error is of third order in the spread of a
component. So where even the second order is small, every component takes its own Kalman update. There is one for each
hypothesis, inlier or outlier, of each observation in turn; it is exact for linear ones. The result is reduced: a
Gaussian sum filter (D. L. Alspach and H. W. Sorenson, "Nonlinear Bayesian Estimation using Gaussian Sum
Approximations", IEEE Trans. Automatic Control 17(4), 1972).

The nonlinearity of an observation over a component ``N(m, L Lᵀ)``, in units of its noise σ, is the larger of two
numbers. One is ``|Lᵀ H L|_F / 2``, with H the Hessian of h at m. The other is a quarter of the root mean square error
of a linear h over the points ``m ± 2 L_i``. It is multiplied by the residual where that is above one. The resulting
divergence is about its square. No expansion at a mean sees that a distance turns back at its sensor, as on a line that
leads to it: `turns_back`. Against grids, for ranges at 5 to 40 times a position's spread, it was just over half
the square on average, and never above it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, RANGE, Linearisation, Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update.reduction_cost import condense

MOST_ANGLE = 0.4  # rad; a less certain direction may wrap
MOST_BEYOND = 1e-4  # nats that may be lost where a distance has turned back


def divergence(
    prior: GaussianMixture,
    observations: Observations,
    below: float = math.inf,
    linear: Linearisation | None = None,
) -> Tensor:
    """Approximate divergence in nats from the exact posterior to that of linearised observations, ``(B,)``.

    Values not under `below` may be too large: there, curvature alone is enough. Infinite where noise is not one
    Gaussian, a direction may wrap, a distance may turn back or a function is undefined at a mean: those need the
    network, which is checked.
    `linear` is the linearisation at the prior's means, in the frames of its factors, if known.
    """
    plain = observations.is_plain
    if not bool(plain.any()):
        return torch.full((prior.batch,), math.inf, dtype=prior.means.dtype)
    linear = linear or observations.linearise(prior.means, prior.factors())
    signed = linear.residuals.signed
    undefined = observations.is_undefined(linear.residuals) & prior.present[..., None]
    plain = plain & ~undefined.any((1, 2))
    spread = linear.information.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    bent = linear.curvature.square().sum((-1, -2)) / 4
    found = torch.where(plain, _total(prior, observations, signed, spread, bent), math.inf)
    near = torch.nonzero(found < below)[:, 0]
    if len(near):
        some, seen = prior.rows(near), observations.rows_of(near)
        larger = torch.maximum(bent[near], missed(some, seen, signed[near], linear.slope[near]))
        total = _total(some, seen, signed[near], spread[near], larger)
        found[near] = torch.where(turns_back(some, seen, linear.rows(near)), math.inf, total)
    return found


def turns_back(prior: GaussianMixture, observations: Observations, linear: Linearisation) -> Tensor:
    """Whether the posterior may have mass where a distance has turned back, ``(B,)`` bool.

    Along the line of its slope, a distance is shortest at a plane. Of a component t deviations away from it, less than
    ``exp(−t²/2)`` lies beyond, compared with the evidence. There, a linear residual r that falls by s per deviation is
    off by about 2 s, so that the log likelihood is off by some ``2 s √(1 + r²)``. The loss is the square of that.
    """
    distances = (observations.kind == RANGE) & observations.mask
    if not bool(distances.any()):
        return torch.zeros(prior.batch, dtype=torch.bool)
    plain = observations.matrix[:, None] @ prior.factors()[:, :, None]  # (B, K, N, R, D)
    relative = la.times(observations.matrix[:, None], prior.means[:, :, None]) - observations.origin[:, None]
    line = la.times(plain, la.transpose_times(plain, relative))
    foot = (relative * line).sum(-1).abs() / la.transpose_times(plain, line).square().sum(-1).sqrt()
    spread, squared = linear.slope.square().sum(-1), linear.residuals.squared
    unlikely = 0.5 * squared / (1 + spread) + 0.5 * spread.log1p()
    unlikely = torch.minimum(unlikely, (linear.residuals.log_odds + 0.5 * squared).clamp_min(0))
    log_weights, off = prior.log_weights[..., None], 4 * spread * (1 + squared)
    least = (log_weights - unlikely).amax(1, keepdim=True) + math.log(MOST_BEYOND)
    # negated, so that what is not a number counts as beyond
    beyond = (
        ~(log_weights - 0.5 * foot.square() + off.log() < least)
        & prior.present[..., None]
        & distances[:, None]
    )
    return beyond.any(2).any(1)


def _total(
    prior: GaussianMixture, observations: Observations, signed: Tensor, spread: Tensor, defect: Tensor
) -> Tensor:
    """Sum over observations and components, ``(B,)``.

    `signed` residuals and `spread` of the expected value are in noise units, `defect` is for a residual of one:
    ``(B, K, N)``.
    """
    deviation = observations.standard_deviation[:, None]
    uncertain = (spread * deviation > MOST_ANGLE) | (signed.abs() * deviation > 2.0)
    defect = defect * signed.square().clamp_min(1.0)
    defect = torch.where(observations.wraps[:, None] & uncertain, math.inf, defect)
    exact = (observations.kind == LINEAR) | ~observations.mask
    defect = torch.where(exact[:, None], 0.0, defect)
    share = prior.log_weights.exp()
    return torch.where(share > 0, share * defect.sum(-1), 0.0).sum(1)


def missed(prior: GaussianMixture, observations: Observations, signed: Tensor, slope: Tensor) -> Tensor:
    """Mean square error of a linear h at two standard deviations, over sixteen, ``(B, K, N)``."""
    batch, components, size = prior.means.shape
    steps = 2 * prior.factors().mT  # rows: the columns of the factor
    points = torch.cat([prior.means[:, :, None] + steps, prior.means[:, :, None] - steps], 2)
    there = observations.residuals(points.view(batch, -1, size)).signed
    there = there.view(batch, components, 2 * size, -1)
    along = 2 * slope.mT  # the residual falls by it
    expected = torch.cat([-along, along], 2) + signed[:, :, None]
    return (there - expected).square().mean(2) / 16


def update(
    prior: GaussianMixture,
    observations: Observations,
    components: int,
    threshold: float,
    linear: Linearisation | None = None,
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Posterior of at most `components`, log evidence ``(B,)`` and the cost of reduction, as `condensing.condense`.

    `linear` as in `divergence`. On the CPU, `native_nearly_linear` does it without PyTorch's operators.
    """
    linear = linear or observations.linearise(prior.means, prior.factors())
    total = torch.zeros(prior.batch, dtype=prior.means.dtype)
    lost, belief = torch.zeros_like(total), prior
    order, hypotheses = order_by_operators, hypotheses_by_operators
    native = native_form("update.native_nearly_linear", prior.means, prior.log_weights, linear.information)
    if native is not None and observations.native is not None:
        order, hypotheses = native.order, native.hypotheses
    for places in order(prior, observations, linear).unbind(1):
        joint = hypotheses(belief, observations, places)
        total = total + torch.logsumexp(joint.log_weights, 1)
        belief, more = condense(joint, components, threshold)
        lost = lost + more
    return belief, total, lost


def order_by_operators(prior: GaussianMixture, observations: Observations, linear: Linearisation) -> Tensor:
    """Places ``(B, N)`` of the observations, most informative first, so that their given order does not matter.

    N is the most that one entity has.
    """
    said = linear.information.diagonal(dim1=-2, dim2=-1).sum(-1) + linear.residuals.squared
    said = (prior.log_weights.exp()[..., None] * said).sum(1)
    order = torch.where(observations.mask, said, -1.0).argsort(dim=1, descending=True, stable=True)
    return order[:, : int(observations.mask.sum(1).max())]


def hypotheses_by_operators(
    prior: GaussianMixture, observations: Observations, places: Tensor
) -> GaussianMixture:
    """Every component after the observation at `places` ``(B,)``, as an inlier and as an outlier; not normalised."""
    row = torch.arange(prior.batch)[:, None]
    single = observations.map(lambda tensor: tensor[row, places[:, None]])
    probability, used = single.outlier_probability[:, 0], single.mask
    inlier = _gaussian(prior, single)
    log_weights = inlier.log_weights + torch.log1p(-probability)[:, None]
    parts = [GaussianMixture(log_weights, inlier.means, inlier.covariances).where(used, prior)]
    if bool((probability > 0).any()):
        is_linear = single.kind == LINEAR
        weights = prior.log_weights + single.outlier_log_density
        outlier = GaussianMixture(weights, prior.means, prior.covariances)
        if bool(is_linear.any()):
            outlier = _kalman(prior, single.widened()).where(is_linear, outlier)
        possible = used & (probability > 0)[:, None]
        weights = torch.where(possible, outlier.log_weights + probability.log()[:, None], -math.inf)
        parts.append(GaussianMixture(weights, outlier.means, outlier.covariances))
    return beside(parts)


def _gaussian(prior: GaussianMixture, single: Observations) -> GaussianMixture:
    """Every component after an inlier, weighted by its evidence."""
    is_linear = single.kind == LINEAR
    if bool(is_linear.all()):
        return _kalman(prior, single)
    bent = _second_order(prior, single)
    if not bool(is_linear.any()):
        return bent
    return _kalman(prior, single).where(is_linear, bent)


def _second_order(prior: GaussianMixture, single: Observations) -> GaussianMixture:
    """Second-order update: a scalar observation with the mean and spread of its second-order expansion.

    The error of a tangent is small too, but has a sign, and adds up over many observations (M. Athans, R. P. Wishner
    and A. Bertolini, "Suboptimal State Estimation for Continuous-Time Nonlinear Systems from Discrete Noisy
    Measurements", IEEE Trans. Automatic Control 13(5), 1968).
    """
    factors = prior.factors()
    linear = single.linearise(prior.means, factors)
    slope, bend = linear.slope[:, :, 0], linear.curvature[:, :, 0]
    off = linear.residuals.signed[..., 0] - la.trace(bend) / 2
    spread = 1 + slope.square().sum(-1) + bend.square().sum((-1, -2)) / 2
    gain = la.times(factors, slope) / spread[..., None]
    evidence = -0.5 * (off.square() / spread + spread.log()) - single.log_normaliser
    covariances = prior.covariances - la.outer(gain, gain) * spread[..., None, None]
    means = prior.means + gain * off[..., None]
    return GaussianMixture(prior.log_weights + evidence, means, la.symmetrise(covariances))


def _kalman(prior: GaussianMixture, single: Observations) -> GaussianMixture:
    return Prediction.of(prior, single).posterior(prior)
