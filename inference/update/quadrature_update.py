"""Update by quadrature, for the problems where it is accurate enough; these skip the network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import quadrature
from beliefstream.inference.update.curved_quadrature import follow
from beliefstream.inference.update.importance import systematic
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.plane.several_observations import in_one
from beliefstream.inference.update.plane.single_observation import around_sensor
from beliefstream.inference.update.prior_scan import scan
from beliefstream.inference.update.result import Method, Update, joined, size_at
from beliefstream.inference.update.scaled_problem import Posed, Scaled
from beliefstream.inference.update.settings import UpdateSettings

AIM = 0.2  # of the allowed loss: components are split down to it
POINTS, SEED = 256, 701  # of the prior, which check the evidence under a likelihood of any shape
WIDER = 2.0  # the same number of points is of a prior wider by this factor
CHECKED_SPREAD = (
    30.0  # of an expected value over a component, as `quadrature.MOST_SPREAD`, where these points check
)
LESS_LINEAR = 0.05  # factor on the allowed loss of a linearised function
MORE_LOSS = 4.0  # factor on the allowed loss for functions, on which no network was trained
LEAST_SHARE, SLACK = 0.05, 0.02  # of these points that count; difference in nats that is no fault


def settle(
    prior: GaussianMixture,
    observations: Observations,
    touched: Tensor,
    scaled: Scaled,
    open_: Tensor,
    settings: UpdateSettings,
) -> tuple[Tensor, Update | None]:
    """Places of the problems that quadrature solves well enough, and the answers; None if there are none.

    Args:
        prior, observations: over all coordinates.
        touched: coordinates that each entity's sensors touch, ``(B, D)`` bool.
        scaled: the same problems, linearised.
        open_: problems that are not solved yet, ``(B,)`` bool.
        settings: `quadrature_below` is the loss in nats that an answer may have; 0 never uses quadrature.
    """
    if settings.quadrature_below <= 0:
        return torch.zeros(0, dtype=torch.int64), None
    parts = [*around_sensor(scaled, touched, open_, settings), *follow(scaled, touched, open_, settings)]
    left = _without(open_, parts)
    fits = left & (touched.sum(1) <= max(quadrature.RULES))
    if bool(fits.any()):
        parts.extend(_weak(prior, observations, touched, scaled, fits, settings))
        left = _without(left, parts)
    parts.extend(in_one(prior, observations, touched, scaled, left, settings))
    if not parts:
        return torch.zeros(0, dtype=torch.int64), None
    return torch.cat([index for index, _ in parts]).sort().values, joined(parts)


def _without(open_: Tensor, solved: list[tuple[Tensor, Update]]) -> Tensor:
    """Which problems are still open, ``(B,)`` bool."""
    left = open_.clone()
    for index, _ in solved:
        left[index] = False
    return left


def _weak(
    prior: GaussianMixture,
    observations: Observations,
    touched: Tensor,
    scaled: Scaled,
    fits: Tensor,
    settings: UpdateSettings,
) -> Iterator[tuple[Tensor, Update]]:
    """Places and answers of problems that fit, ``(B,)`` bool, and whose observations are weak beside the prior."""
    spread = quadrature.gate(scaled.prior, scaled.observations, scaled.linear)
    # the prior's points check functions too, see `_agreed`
    functions = observations.has_functions
    most = torch.where(functions, CHECKED_SPREAD, quadrature.MOST_SPREAD)
    fits = fits & (spread < most)
    if observations.likelihoods is not None:
        fits = fits & (_farther_out(scaled) < quadrature.MOST_SPREAD)
    pattern = (touched * (1 << torch.arange(prior.dimension))).sum(1) + (functions * (1 << prior.dimension))
    code = torch.where(fits, pattern, -1)
    for each in sorted(set(code.tolist()) - {-1}):
        index = torch.nonzero(code == each)[:, 0]
        axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
        local = LocalProblem.of(prior.rows(index), observations.rows_of(index), axes)
        below = settings.quadrature_below * (MORE_LOSS if bool(functions[index[0]]) else 1.0)
        steep = spread[index] >= quadrature.MOST_SPREAD
        accepted, update = _settled(local, scaled.rows(index), steep, settings, below)
        if len(accepted):
            yield index[accepted], update.rows(accepted)


def _settled(
    local: LocalProblem, problem: Scaled, steep: Tensor, settings: UpdateSettings, below: float
) -> tuple[Tensor, Update]:
    """Places of the answers that lose less than `below`, nats, and all answers; `steep` are compared with a scan."""
    observations = local.observations
    solution = quadrature.solve(local.prior, observations, below * AIM)
    whole = local.extend(solution.posterior, solution.source)
    whole = reduce(whole, settings.most_components, settings.merge_below)
    divergence = solution.divergence_of(local.localise(whole))
    if observations.likelihoods is not None or observations.functions is not None:
        divergence = torch.where(_agreed(local, solution.log_evidence), divergence, math.inf)
    at = torch.nonzero(steep & (divergence < below))[:, 0]
    if len(at):
        divergence[at] += _missed(local.rows(at), whole.rows(at), solution.log_evidence[at])
    update = Update(
        whole,
        size_at(divergence),
        solution.log_evidence,
        problem.prediction.surprise(problem.prior),
        torch.full((whole.batch,), Method.QUADRATURE, dtype=torch.int64),
        divergence,
    )
    return torch.nonzero(divergence < below)[:, 0], update


def _missed(local: LocalProblem, whole: GaussianMixture, log_evidence: Tensor) -> Tensor:
    """Nats that answers miss, ``(B,)``, by a scan of the prior.

    A steep function, such as a logarithm near zero, may fit in a slice of the prior thinner than the distance between
    all points. A scan sees it, because it smooths the likelihood over its cells.
    """
    found = scan(local.prior, local.observations)
    return found.missed(local.localise(whole), log_evidence).sum(1)


def linear_share(posed: Posed, observations: Observations, settings: UpdateSettings) -> Tensor | float:
    """Factor ``(B,)`` on the loss that a linearised update may have: less where quadrature can replace it.

    The error of a linearised function has a sign, and adds up over many observations.
    """
    if observations.functions is None or settings.quadrature_below <= 0:
        return 1.0  # without the parts of the posed problem, which a closed form does not need
    replaced = observations.has_functions & (posed.touched.sum(1) < max(quadrature.RULES))
    return torch.where(replaced, LESS_LINEAR, 1.0).double()


def _farther_out(problem: Scaled) -> Tensor:
    """As `quadrature.gate` for problems of the user, but at the points ``m ± 2 L_i`` of each component, ``(B,)``.

    A likelihood of any shape may be flat just at a mean, and so may a function: there `_agreed` is enough, because the
    noise of a function limits how sharp its likelihood is.
    """
    prior, observations = problem.prior, problem.observations
    assert observations.likelihoods is not None
    batch, count, size = prior.means.shape
    factors = prior.factors()
    steps = 2 * factors.mT
    points = torch.cat([prior.means[:, :, None] + steps, prior.means[:, :, None] - steps], 2)
    frames = factors[:, :, None].expand(-1, -1, 2 * size, -1, -1)
    linear = observations.linearise(points.flatten(1, 2), frames.flatten(1, 2))
    spread = la.trace(linear.information).view(batch, count, 2 * size, -1)
    own = (observations.likelihoods.present & observations.mask)[:, None, None]
    return torch.where(own & prior.present[..., None, None], spread, 0.0).amax((1, 2, 3)).sqrt()


def _agreed(local: LocalProblem, log_evidence: Tensor) -> Tensor:
    """Whether points of the prior give the same evidence, ``(B,)``; always without functions and problems.

    A function may be undefined over a part of the prior where no node lies. Half of the points are of a prior twice as
    wide, so that some lie in its tails.
    """
    prior, observations = local.prior, local.observations
    factors, count = prior.factors(), 2 * POINTS
    wide = GaussianMixture(prior.log_weights, prior.means, WIDER**2 * prior.covariances)
    each = systematic(prior, factors, POINTS, SEED), systematic(wide, WIDER * factors, POINTS, SEED + 1)
    points = torch.cat(each, 1)
    own, other = prior.log_density(points), wide.log_density(points)
    value = observations.log_likelihood(points) + own - torch.logaddexp(own, other) + math.log(2)
    share = torch.softmax(value, 1)
    effective = 1 / (count * share.square().sum(1))
    slack = SLACK + 3 * ((1 / effective - 1) / count).clamp_min(0).sqrt()
    off = (torch.logsumexp(value, 1) - math.log(count) - log_evidence).abs()
    any_shape = (observations.takes_coordinates & observations.mask).any(1)
    return ~any_shape | ((effective > LEAST_SHARE) & (off < slack))
