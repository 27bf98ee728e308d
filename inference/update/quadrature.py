"""Exact moments by quadrature, for observations that are weak beside the prior, even if strongly nonlinear.

A network has an error floor that does not fall with an observation's information; over many weak observations it adds
up. Here the evidence, mean and covariance of every component times the likelihood are sums over the nodes of a
Gauss–Hermite product rule. So weights, means and covariances have no bias: this is assumed density filtering on a
Gaussian sum (K. Ito and K. Xiong, "Gaussian Filters for Nonlinear Filtering Problems", IEEE Trans. Automatic Control
45(5), 2000). Only the shape of a component is lost. Where that costs more than a tolerance, components are split along
the line that loses most. Each part then stands for its share of the component, ``N(x) w_i N_i(x) / Σ_j w_j N_j(x)``, so
a split adds no error of its own.

The nodes are the prior's. A likelihood that is sharp beside them falls between, which nothing computed from the nodes
can see. Hence `gate`, which uses only the linearised observations. After the gate, three numbers from the nodes must
agree that the likelihood is smooth on their scale: see `Solution.error`.

`settle` updates the problems where this or the quadrature of the plane is accurate enough; they skip the network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Linearisation, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.gauss_hermite import Moments, apart, loss_of_shape, rule
from beliefstream.inference.mixtures.mixture import GaussianMixture, component_log_density, concatenate
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.mixtures.splitting import PARTS, split
from beliefstream.inference.update.check.importance import WIDENING, Seed, systematic
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.check.prior_scan import scan
from beliefstream.inference.update.closed.scaled_problem import Posed, Scaled
from beliefstream.inference.update.curved import follow
from beliefstream.inference.update.curved_nodes import MOST_ERROR
from beliefstream.inference.update.plane.several_observations import in_one
from beliefstream.inference.update.plane.single_observation import around_sensor
from beliefstream.inference.update.result import Method, Update, efficiency_at, joined
from beliefstream.inference.update.settings import UpdateSettings

MOST_SPREAD = 1.0  # of an observation's expected value over a component, in units of its narrowest noise
RULES = {1: (13, 9), 2: (7, 5), 3: (5, 4)}  # nodes per coordinate, of the rule and of its check
MOST_PARTS = 48  # most components while splitting
ROUNDS = 3
GAIN = 4.0  # about the most by which one round of splitting divides the divergence
MOST_ROUGH = 0.01
NUMBERS = 2_000_000  # most in one tensor
_SHARE = 0.1  # of the largest loss in a mixture; components with smaller losses are not split
AIM = 0.2  # of the allowed loss: components are split down to it
POINTS = 256  # of the prior, which check the evidence under a likelihood of any shape
CHECKED_SPREAD = 30.0  # of an expected value over a component, as `MOST_SPREAD`, where these points check
LESS_LINEAR = 0.05  # factor on the allowed loss of a linearised function
MORE_LOSS = 4.0  # factor on the allowed loss for functions, on which no network was trained
LEAST_SHARE, SLACK = 0.05, 0.02  # of these points that count; difference in nats that is no fault


def gate(prior: GaussianMixture, observations: Observations, linear: Linearisation) -> Tensor:
    """Largest spread of an observation's prediction over a component, in its narrowest noise, ``(B,)``.

    It comes from the second-order expansion at the means, without any likelihood. `linear` is the linearisation there,
    in the frames of the factors of `prior`. Above `MOST_SPREAD`, or if NaN, quadrature must not be used.
    """
    deviation, narrowest = linear.residuals.deviation, observations.standard_deviation[:, None]
    if observations.mixture is not None:
        present = ~observations.mixture.log_weights.isneginf()
        narrowest = narrowest * torch.where(present, observations.mixture.ratio, math.inf).amin(-1)[:, None]
    information = linear.information.diagonal(dim1=-2, dim2=-1).sum(-1)
    bent = (information + linear.curvature.square().sum((-1, -2)) / 2) * (deviation / narrowest).square()
    variance = torch.where((observations.kind == LINEAR)[:, None], information, bent)
    seen = observations.mask[:, None] & prior.present[..., None]
    return torch.where(seen, variance, 0.0).amax((1, 2)).sqrt()


@dataclass(frozen=True)
class Solution:
    """Posterior of a batch in the problems' coordinates; the vectors are ``(B,)``."""

    posterior: GaussianMixture  # (B, J)
    source: Tensor  # (B, J), the prior component of each part
    log_evidence: Tensor
    divergence: Tensor  # estimate of KL(exact ‖ posterior) in nats, including the error of the quadrature
    error: Tensor  # difference between two rules, nats
    rough: Tensor  # share of the squared likelihood ratio in the highest degrees that the nodes resolve
    points: Tensor  # the nodes, (B, P, d)
    shares: Tensor  # share of the exact posterior in each node, (B, P)
    log_exact: Tensor  # log density of the exact posterior there, (B, P)

    def rows(self, index: Tensor) -> Solution:
        """The solutions of the problems at `index`."""
        return Solution(self.posterior.rows(index), *(getattr(self, name)[index] for name in TENSORS))

    @property
    def sound(self) -> Tensor:
        """Whether the nodes can be trusted, ``(B,)`` bool."""
        return (self.error < MOST_ERROR) & (self.rough < MOST_ROUGH)

    def divergence_of(self, answer: GaussianMixture) -> Tensor:
        """Estimate of KL(exact ‖ answer) in nats ``(B,)``; infinite if the nodes cannot be trusted."""
        found = _divergence(self.points, self.shares, self.log_exact, answer) + self.error
        return torch.where(self.sound & ~found.isnan(), found, math.inf)


TENSORS = [field.name for field in fields(Solution) if field.name != "posterior"]


def _divergence(points: Tensor, shares: Tensor, log_exact: Tensor, answer: GaussianMixture) -> Tensor:
    """``E[q/p − 1 − log(q/p)]`` under the exact p; no term is negative, so errors cannot cancel."""
    log_ratio = answer.log_density(points) - log_exact
    return torch.where(shares > 0, shares * (torch.expm1(log_ratio) - log_ratio), 0.0).sum(1)


def _correction(prior: GaussianMixture, parts: GaussianMixture, source: Tensor, points: Tensor) -> Tensor:
    """Log ratio of a component to the sum of its parts, at the nodes of each part ``(B, K, M, d)``; ``(B, K, M)``."""
    batch, count, each, size = points.shape
    row = torch.arange(batch)[:, None]
    factors = prior.factors()[row, source]
    offset = points - prior.means[row, source][:, :, None]
    white = la.times(la.invert_lower(factors)[:, :, None], offset)
    whole = -0.5 * la.squared_norm(white) - la.log_diagonal(factors)[..., None]
    whole = whole - 0.5 * size * math.log(2 * math.pi)
    logs = component_log_density(points.reshape(batch, -1, size), parts.means, parts.factors())
    share = parts.log_weights - prior.log_weights.gather(1, source)
    logs = (logs + share[..., None]).view(batch, count, count, each)
    alike = source[:, :, None] == source[:, None]  # a part, and the part with the nodes
    return whole - torch.logsumexp(torch.where(alike[..., None], logs, -math.inf), 1)


def _present(mixture: GaussianMixture) -> GaussianMixture:
    """Put a standard Gaussian in all unused places."""
    used = mixture.present
    eye = torch.eye(mixture.dimension, dtype=mixture.means.dtype)
    return GaussianMixture(
        mixture.log_weights,
        torch.where(used[..., None], mixture.means, 0.0),
        torch.where(used[..., None, None], mixture.covariances, eye),
    )


def _integrate(
    prior: GaussianMixture, observations: Observations, parts: GaussianMixture, source: Tensor
) -> tuple[Solution, Moments]:
    """One pass over the nodes of all `parts`: the components of `prior`, or what they were split into."""
    size, (fine, coarse) = prior.dimension, RULES[prior.dimension]
    (nodes, weights), (fewer, their_weights) = rule(fine, size), rule(coarse, size)
    every, main = torch.cat([nodes, fewer]), len(nodes)
    factors = parts.factors()
    points = parts.means[:, :, None] + la.times(
        factors[:, :, None], every.expand(*source.shape, *every.shape)
    )
    likelihood = observations.log_likelihood(points.flatten(1, 2)).view(*source.shape, -1)
    values = likelihood if parts is prior else likelihood + _correction(prior, parts, source, points)
    values = torch.where(parts.present[..., None], values, 0.0)
    found = Moments.of(values[..., :main], nodes, weights)
    check = Moments.of(values[..., main:], fewer, their_weights)
    log_weights = parts.log_weights + found.log_mass
    evidence = torch.logsumexp(log_weights, 1)
    posterior = GaussianMixture(
        log_weights - evidence[:, None],
        parts.means + la.times(factors, found.mean),
        la.symmetrise(factors @ found.covariance @ factors.mT),
    )
    share, error = posterior.log_weights.exp(), apart(found, check, parts.log_weights)
    rough = (share * found.roughness(fine, weights)).sum(1)
    at, shares = points[:, :, :main].flatten(1, 2), (share[..., None] * found.shares).flatten(1)
    log_exact = prior.log_density(at) + likelihood[..., :main].flatten(1) - evidence[:, None]
    divergence = _divergence(at, shares, log_exact, posterior) + error
    return Solution(posterior, source, evidence, divergence, error, rough, at, shares, log_exact), found


def _split(
    prior: GaussianMixture, parts: GaussianMixture, source: Tensor, found: Moments, solution: Solution
) -> tuple[GaussianMixture, Tensor]:
    """Split the parts that lose most of their shape in three, as far as there is room."""
    loss, line = loss_of_shape(found, rule(RULES[prior.dimension][0], prior.dimension)[0])
    lost = torch.where(parts.present, solution.posterior.log_weights.exp() * loss, 0.0)
    room = (MOST_PARTS - parts.present.sum(1)) // (PARTS - 1)
    rank = lost.argsort(dim=1, descending=True, stable=True).argsort(1)
    which = (lost > _SHARE * lost.amax(1, keepdim=True)) & (rank < room[:, None])
    return split(parts, source, which, la.times(parts.factors(), line))


def _solved(
    prior: GaussianMixture,
    observations: Observations,
    parts: GaussianMixture,
    source: Tensor,
    tolerance: float,
    rounds: int,
) -> Solution:
    """Solve with up to `rounds` of splitting, where that can bring the divergence below the tolerance."""
    each = parts.components * sum(count**prior.dimension for count in RULES[prior.dimension])
    rows = observations.matrix.shape[1] * observations.matrix.shape[2]
    most = max(1, NUMBERS // (each * max(rows, parts.components, prior.dimension**2)))
    if parts.batch > most:
        found: list[tuple[Tensor, Solution]] = []
        for index in torch.split(torch.arange(parts.batch), most):
            some = prior.rows(index)
            divided = some if parts is prior else parts.rows(index)
            rest = (divided, source[index], tolerance, rounds)
            found.append((index, _solved(some, observations.rows_of(index), *rest)))
        return _joined(found)
    solution, moments = _integrate(prior, observations, parts, source)
    if rounds == 0:
        return solution
    hopeful = solution.divergence < tolerance * GAIN**rounds
    room = parts.present.sum(1) <= MOST_PARTS - (PARTS - 1)
    at = torch.nonzero((solution.divergence > tolerance) & hopeful & room)[:, 0]
    if len(at) == 0:
        return solution
    some, seen = prior.rows(at), observations.rows_of(at)
    finer = _split(some, parts.rows(at), source[at], moments.rows(at), solution.rows(at))
    deeper = _solved(some, seen, *finer, tolerance, rounds - 1)
    better = torch.isfinite(deeper.divergence)
    keep = torch.ones(parts.batch, dtype=torch.bool)
    keep[at[better]] = False
    kept, chosen = torch.nonzero(keep)[:, 0], torch.nonzero(better)[:, 0]
    return _joined([(kept, solution.rows(kept)), (at[chosen], deeper.rows(chosen))])


def _joined(parts: list[tuple[Tensor, Solution]]) -> Solution:
    """Join the solutions of parts of a batch, each with its places; zeros fill up components and nodes."""
    order = torch.argsort(torch.cat([index for index, _ in parts]))
    found = [solution for _, solution in parts]

    def along(name: str) -> Tensor:
        tensors = [getattr(each, name) for each in found]
        if tensors[0].dim() > 1:
            most = max(tensor.shape[1] for tensor in tensors)
            tensors = [_padded(tensor, most) for tensor in tensors]
        return torch.cat(tensors)[order]

    posterior = concatenate([each.posterior for each in found]).rows(order)
    return Solution(posterior, *map(along, TENSORS))


def _padded(tensor: Tensor, count: int) -> Tensor:
    """Pad with zeros to `count` in the second dimension."""
    more = tensor.new_zeros(len(tensor), count - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, more], 1)


def solve(prior: GaussianMixture, observations: Observations, tolerance: float) -> Solution:
    """Posterior of each problem; splits components while the divergence is above `tolerance`, nats.

    Args:
        prior: ``(B, K, d)`` in float64, d at most 3, in coordinates of about unit spread.
        observations: over the same coordinates, past the `gate`.
        tolerance: if nothing more can be split, a larger divergence remains and is reported.
    """
    if prior.dimension not in RULES:
        raise ValueError(f"prior: {prior.dimension} coordinates, at most {max(RULES)} are for quadrature")
    last = int(observations.mask.any(0).nonzero().max()) + 1
    observations = observations.map(lambda tensor: tensor[:, :last])
    order = prior.log_weights.argsort(dim=1, descending=True, stable=True)
    counts = prior.present.sum(1)
    found: list[tuple[Tensor, Solution]] = []
    left, places = torch.arange(prior.batch), 1
    while len(left):  # problems with about as many components go together
        few = counts[left] <= places
        index, left = left[few], left[~few]
        if len(index):
            chosen = order[index, :places]
            some = _present(prior.rows(index).places(chosen))
            source = torch.arange(chosen.shape[1]).expand(len(index), -1)
            solution = _solved(some, observations.rows_of(index), some, source, tolerance, ROUNDS)
            found.append((index, replace(solution, source=chosen.gather(1, solution.source))))
        places *= 2
    return _joined(found)


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
    parts = [*follow(scaled, touched, open_, settings)]
    parts.extend(around_sensor(scaled, touched, _without(open_, parts), settings))
    left = _without(open_, parts)
    fits = left & (touched.sum(1) <= max(RULES))
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
    spread = gate(scaled.prior, scaled.observations, scaled.linear)
    # the prior's points check functions too, see `_agreed`
    functions = observations.has_functions
    most = torch.where(functions, CHECKED_SPREAD, MOST_SPREAD)
    fits = fits & (spread < most)
    if observations.likelihoods is not None:
        fits = fits & (_farther_out(scaled) < MOST_SPREAD)
    pattern = (touched * (1 << torch.arange(prior.dimension))).sum(1) + (functions * (1 << prior.dimension))
    code = torch.where(fits, pattern, -1)
    for each in sorted(set(code.tolist()) - {-1}):
        index = torch.nonzero(code == each)[:, 0]
        axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
        local = LocalProblem.of(prior.rows(index), observations.rows_of(index), axes)
        below = settings.quadrature_below * (MORE_LOSS if bool(functions[index[0]]) else 1.0)
        steep = spread[index] >= MOST_SPREAD
        accepted, update = _settled(local, scaled.rows(index), steep, settings, below)
        if len(accepted):
            yield index[accepted], update.rows(accepted)


def _settled(
    local: LocalProblem, problem: Scaled, steep: Tensor, settings: UpdateSettings, below: float
) -> tuple[Tensor, Update]:
    """Places of the answers that lose less than `below`, nats, and all answers; `steep` are compared with a scan."""
    observations = local.observations
    solution = solve(local.prior, observations, below * AIM)
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
        efficiency_at(divergence),
        solution.log_evidence,
        problem.prediction.p_value(problem.prior),
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
        return 1.0
    hidden = 0 if observations.hidden is None else int(observations.hidden.max())
    touched = posed.touched[:, : posed.touched.shape[1] - hidden]
    replaced = observations.has_functions & (touched.sum(1) < max(RULES))
    return torch.where(replaced, LESS_LINEAR, 1.0).double()


def _farther_out(problem: Scaled) -> Tensor:
    """As `gate` for problems of the user, but at the points ``m ± 2 L_i`` of each component, ``(B,)``.

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
    wide = GaussianMixture(prior.log_weights, prior.means, WIDENING * prior.covariances)
    each = (
        systematic(prior, factors, POINTS, Seed.EVIDENCE),
        systematic(wide, wide.factors(), POINTS, Seed.EVIDENCE + 1),
    )
    points = torch.cat(each, 1)
    own, other = prior.log_density(points), wide.log_density(points)
    value = observations.log_likelihood(points) + own - torch.logaddexp(own, other) + math.log(2)
    share = torch.softmax(value, 1)
    effective = 1 / (count * share.square().sum(1))
    slack = SLACK + 3 * ((1 / effective - 1) / count).clamp_min(0).sqrt()
    off = (torch.logsumexp(value, 1) - math.log(count) - log_evidence).abs()
    any_shape = (observations.takes_coordinates & observations.mask).any(1)
    return ~any_shape | ((effective > LEAST_SHARE) & (off < slack))
