"""Updates with errors of sensors that last, where the observations bend too much for a closed form.

Several observations are taken one after the other, most informative first: by a closed form where one alone is linear,
or nearly so. The errors are hidden coordinates, the last ones, that add to a scalar observation ``z = h(x) + v + n``,
as a sum v of them; n is the noise. A sheet of ``h(x) + v`` as thin as the noise is hard to fit, but its marginal over the state x is
not: given x, each component of the prior has a Gaussian v, so that it counts as noise. So of every component

1. v is regressed on h(x), ``v = α + β (h − h₀) + r``; then ``h₀ + (z − h₀ − α) / (1 + β)`` observes h(x) alone, with
   the noise ``(r + n) / (1 + β)``. What x tells of v along other lines than h counts as noise here: that is the only
   approximation, and it is counted as lost.
2. The state is updated with that, by the usual ways.
3. v follows: given x and z it is Gaussian. Its moments over each part of the posterior are taken at cubature points.
4. All other coordinates follow from x and v by regression.

Hypotheses that the observation is an outlier leave their component as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.noise import wrap
from beliefstream.inference.likelihood.observations import LINEAR, Linearisation, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.update.closed.nearly_linear import hypotheses, order
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.quadrature import linear_share
from beliefstream.inference.update.result import Method, Update, efficiency_at, joined
from beliefstream.inference.update.settings import UpdateSettings

LEAST = 1e-3  # of 1 + β; an observation that says less of h says nothing
# nats below the likeliest hypothesis by the moments of h, where a component does not matter: these are rough far out
UNLIKELY = 40.0

Solve = Callable[[GaussianMixture, Observations], Update]


def update(
    prior: GaussianMixture,
    observations: Observations,
    linear: Linearisation,
    p_value: Tensor,
    solve: Solve,
    settings: UpdateSettings,
) -> Update:
    """Update `prior` ``(B, K, D + m)`` with observations of m hidden errors.

    Args:
        prior: over the state and the hidden coordinates.
        observations: without problems, with Gaussian noise.
        linear: the observations at the prior's means, in the frames of its factors.
        p_value: of all observations of each entity, ``(B,)``.
        solve: updates priors over the state with one observation each.
        settings: limits of the closed form, and of reduction.
    """
    places = order(prior, observations, linear)
    found, counts = [], observations.mask.sum(1)
    for count in sorted(set(counts.tolist())):
        index = torch.nonzero(counts == count)[:, 0]
        belief, total, lost, best = prior.rows(index), *torch.zeros(2, len(index)).double(), torch.zeros(0)
        for number in range(count):
            one = _taken(observations.rows_of(index), places[index, number])
            # one alone is here because it bends
            near, diverged = _near(belief, one, settings) if count > 1 else (one.kind[:, 0] == LINEAR, lost)
            joint, loss, best = _with_one(belief, one, solve, near, diverged)
            evidence = torch.logsumexp(joint.log_weights, 1)
            belief, more = condense(joint.normalised(), settings.most_components, settings.merge_below)
            total, lost = total + evidence, lost + loss + more
        whole = Update(belief, efficiency_at(lost), total, p_value[index], best, lost)
        found.append((index, whole))
    return joined(found)


def _taken(observations: Observations, place: Tensor) -> Observations:
    """The observation at `place` ``(B,)`` of each entity."""
    row = torch.arange(len(place))
    return observations.map(lambda tensor: tensor[row, place][:, None])


def _near(belief: GaussianMixture, one: Observations, settings: UpdateSettings) -> tuple[Tensor, Tensor]:
    """Which observations have a closed form, ``(B,)`` bool, and what it loses, nats."""
    posed = pose(belief, one, settings.linear_below)
    limit = settings.linear_below * linear_share(posed, one, settings)
    return (one.kind[:, 0] == LINEAR) | (posed.divergence < limit), posed.divergence


def _with_one(
    belief: GaussianMixture, one: Observations, solve: Solve, near: Tensor, diverged: Tensor
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Every component after one observation, by each hypothesis, not normalised; what is lost, and the methods.

    Those that are `near` ``(B,)`` bool take the closed form, which loses `diverged` ``(B,)`` nats.
    """
    parts: list[tuple[Tensor, GaussianMixture, Tensor, Tensor]] = []
    for is_linear in (True, False):
        index = torch.nonzero(near == is_linear)[:, 0]
        if len(index):
            some, seen = belief.rows(index), one.rows_of(index)
            if is_linear:
                joint = hypotheses(some, seen, torch.zeros(len(index), dtype=torch.int64))
                loss = diverged[index]
                method = torch.where(loss > 0, int(Method.LINEARISED), int(Method.KALMAN))
                parts.append((index, joint, loss, method))
            else:
                parts.append((index, *_with_scalar(some, seen, solve)))
    places = torch.argsort(torch.cat([part[0] for part in parts]))
    most = max(part[1].components for part in parts)
    padded = [part[1].padded(most).parts for part in parts]
    joint = GaussianMixture(*(torch.cat(each)[places] for each in zip(*padded, strict=True)))
    return (
        joint,
        torch.cat([part[2] for part in parts])[places],
        torch.cat([part[3] for part in parts])[places],
    )


class _Component(NamedTuple):
    """``R`` Gaussians over the state and hidden coordinates, with what they say of the state x and the sum v."""

    mean: Tensor  # (R, D + m)
    covariance: Tensor
    centre: Tensor  # (R, D + 1) of x and v
    spread: Tensor  # (R, D + 1, D + 1)
    across: Tensor  # (R, D + m, D + 1), covariance of all coordinates with x and v
    slope: Tensor  # (R, D) of v given x
    rest: Tensor  # (R,) variance of v given x

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor, heading: Tensor, state: int) -> _Component:
        """`heading` ``(R, D + m)`` of the observations."""
        rows = torch.zeros(len(mean), state + 1, mean.shape[1], dtype=mean.dtype)
        rows[:, range(state), range(state)] = 1.0
        rows[:, state, state:] = -heading[:, state:]
        across = covariance @ rows.mT
        spread = la.symmetrise(rows @ across)
        slope = _solved(spread[:, :state, :state], spread[:, :state, state:])[..., 0]
        rest = spread[:, state, state] - (slope * spread[:, :state, state]).sum(1)
        return cls(mean, covariance, la.times(rows, mean), spread, across, slope, rest.clamp_min(0))

    def rows(self, index: Tensor) -> _Component:
        return _Component(*(part[index] for part in self))

    def followed(self, centre: Tensor, spread: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """All coordinates where x and v of the Gaussians at `row` ``(J,)`` have that mean and covariance."""
        gain = _solved(self.spread, self.across.mT).mT[row]
        mean = self.mean[row] + la.times(gain, centre - self.centre[row])
        return mean, la.symmetrise(self.covariance[row] - gain @ (self.spread[row] - spread) @ gain.mT)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix⁻¹ right``, in units of the standard deviations."""
    scale = matrix.diagonal(dim1=1, dim2=2).clamp_min(1e-300).rsqrt()
    factor = la.cholesky(matrix * la.outer(scale, scale))
    return scale[..., None] * torch.cholesky_solve(scale[..., None] * right, factor)


def _cubature(mean: Tensor, covariance: Tensor) -> Tensor:
    """Points ``(R, 2 D, D)`` of equal weight with the mean and the covariance of Gaussians."""
    steps = math.sqrt(mean.shape[1]) * la.cholesky(covariance, torch.finfo(mean.dtype).tiny).mT
    return mean[:, None] + torch.cat([steps, -steps], 1)


def _with_scalar(
    belief: GaussianMixture, one: Observations, solve: Solve
) -> tuple[GaussianMixture, Tensor, Tensor]:
    assert one.hidden is not None
    state = belief.dimension - int(one.hidden.max())
    row, place = torch.nonzero(belief.present, as_tuple=True)
    seen = one.rows_of(row)
    component = _Component.of(
        belief.means[row, place], belief.covariances[row, place], seen.heading[:, 0], state
    )
    seen = replace(seen, matrix=seen.matrix[..., :state], heading=seen.heading[..., :state], hidden=None)
    alone, ignored, distance = _without_errors(component, seen)
    kept = _likely(belief, row, place, distance, seen)
    outlier = belief.scaled_by(one.outlier_probability.log() + one.outlier_log_density)
    lost, method = (
        torch.zeros(belief.batch, dtype=torch.float64),
        torch.full((belief.batch,), int(Method.KALMAN)),
    )
    if len(kept) == 0:
        return outlier, lost, method
    row, place, seen, component = row[kept], place[kept], seen.rows_of(kept), component.rows(kept)
    prior = GaussianMixture.gaussian(component.mean[:, :state], component.covariance[:, :state, :state])
    answer = solve(prior, alone.rows_of(kept))
    weight = (
        belief.log_weights[row, place] + torch.log1p(-seen.outlier_probability[:, 0]) + answer.log_evidence
    )
    found = weight[:, None] + answer.posterior.log_weights, *_recovered(component, seen, answer)
    inlier = _placed(belief, row, place, found)
    joint = beside([inlier, outlier])
    share = (weight - torch.logsumexp(joint.log_weights, 1)[row]).exp()
    lost = lost.index_add(0, row, share * (answer.divergence + ignored[kept]))
    method[row] = answer.method
    return _sorted(joint), lost, method


def _likely(
    belief: GaussianMixture, row: Tensor, place: Tensor, distance: Tensor, seen: Observations
) -> Tensor:
    """Places of the components that may matter as inliers, by their rough squared distances ``(R,)``."""
    weight, probability = belief.log_weights[row, place], seen.outlier_probability[:, 0]
    inlier = weight + torch.log1p(-probability) - seen.log_normaliser[:, 0] - 0.5 * distance
    outlier = weight + probability.log() + seen.outlier_log_density[:, 0]
    best = torch.full((belief.batch,), -math.inf, dtype=torch.float64)
    best = best.scatter_reduce(0, row, torch.maximum(inlier, outlier), "amax")
    return torch.nonzero(~(inlier < best[row] - UNLIKELY))[:, 0]


def _without_errors(component: _Component, seen: Observations) -> tuple[Observations, Tensor, Tensor]:
    """Observations of the state alone, one of each component; nats lost, and rough squared distances ``(R,)``."""
    state = seen.dimension
    centre, spread = component.centre[:, :state], component.spread[:, :state, :state]
    points = _cubature(centre, spread)
    off, middle = seen.difference(points)[..., 0], seen.difference(centre[:, None])[:, 0, 0]
    turns = seen.wraps[:, 0]
    height = middle[:, None] - off  # of h, beside that at the mean
    height = torch.where(turns[:, None], wrap(height), height)
    level, along = height.mean(1), la.times(points - centre[:, None], component.slope)
    above = height - level[:, None]
    variance = above.square().mean(1).clamp_min(1e-300)
    beta = (above * along).mean(1) / variance
    explained = la.quadratic(spread, component.slope, component.slope)
    beside = (explained - beta.square() * variance).clamp_min(0)
    less = 1 + beta
    less = torch.where(less.abs() < LEAST, LEAST, less)
    noise = seen.standard_deviation[:, 0].square()
    rest = component.rest + beside + noise
    left = middle - level - component.centre[:, state]
    left = torch.where(turns, wrap(left), left)
    value = seen.value.clone()
    value[:, 0, 0] += left / less - (middle - level)
    alone = replace(
        seen,
        value=value,
        standard_deviation=(rest.sqrt() / less.abs())[:, None],
        log_scale=seen.log_scale + 0.5 * (rest / noise).log()[:, None],
        outlier_probability=torch.zeros_like(seen.outlier_probability),
    )
    distance = left.square() / (less.square() * variance + rest)
    return alone, 0.5 * (beside / (component.rest + noise)).log1p(), distance


def _recovered(component: _Component, seen: Observations, answer: Update) -> tuple[Tensor, Tensor]:
    """Means ``(R, J, D + m)`` and covariances of all coordinates after the state's answer."""
    (rows, count, state), posterior = answer.posterior.means.shape, answer.posterior
    row = torch.arange(rows).repeat_interleave(count)
    mean, covariance = posterior.means.flatten(0, 1), posterior.covariances.flatten(0, 1)
    used = posterior.present.flatten()
    mean = torch.where(used[:, None], mean, component.centre[row, :state])
    covariance = torch.where(used[:, None, None], covariance, component.spread[row, :state, :state])
    points = _cubature(mean, covariance)
    off = seen.difference(points.view(rows, -1, state))[..., 0].view(len(row), -1)
    away = points - component.centre[row, None, :state]
    given = component.centre[row, state, None] + (away * component.slope[row, None]).sum(-1)
    gain = component.rest / (component.rest + seen.standard_deviation[:, 0].square())
    left = off - given
    left = torch.where(seen.wraps[row], wrap(left), left)
    error = given + gain[row, None] * left
    level = error.mean(1)
    beside, above = points - mean[:, None], error - level[:, None]
    centre = torch.cat([mean, level[:, None]], 1)
    spread = mean.new_empty(len(row), state + 1, state + 1)
    spread[:, :state, :state] = covariance
    spread[:, state, :state] = spread[:, :state, state] = (beside * above[..., None]).mean(1)
    spread[:, state, state] = above.square().mean(1) + (component.rest * (1 - gain))[row]
    means, covariances = component.followed(centre, spread, row)
    return means.view(rows, count, -1), covariances.view(rows, count, *covariances.shape[1:])


def _placed(
    belief: GaussianMixture, row: Tensor, place: Tensor, found: tuple[Tensor, Tensor, Tensor]
) -> GaussianMixture:
    """Log weights, means and covariances ``(R, J, ...)`` of parts of the components at `row` and `place`."""
    parts = found[0].shape[1]
    log_weights = torch.full((*belief.log_weights.shape, parts), -math.inf, dtype=torch.float64)
    means = belief.means[:, :, None].repeat(1, 1, parts, 1)
    covariances = belief.covariances[:, :, None].repeat(1, 1, parts, 1, 1)
    log_weights[row, place], means[row, place], covariances[row, place] = found
    return GaussianMixture(log_weights.flatten(1), means.flatten(1, 2), covariances.flatten(1, 2))


def _sorted(joint: GaussianMixture) -> GaussianMixture:
    """The components by falling weight, in as many places as needed."""
    order = joint.log_weights.argsort(dim=1, descending=True, stable=True)
    return joint.places(order[:, : int(joint.present.sum(1).max())])
