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
"""

from __future__ import annotations

import math
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
from beliefstream.inference.update.closed.scaled_problem import Scaled
from beliefstream.inference.update.problems import Problems, groups
from beliefstream.inference.update.result import Answer, Method, joined
from beliefstream.inference.update.settings import UpdateSettings

MOST_SPREAD = 1.0  # of an observation's expected value over a component, in units of its narrowest noise
RULES = {1: (13, 9), 2: (7, 5), 3: (5, 4)}  # nodes per coordinate, of the rule and of its check
MOST_PARTS = 48  # most components while splitting
ROUNDS = 3
GAIN = 4.0  # about the most by which one round of splitting divides the divergence
MOST_ROUGH = 0.01
MOST_ERROR = 0.002  # nats between two rules
NUMBERS = 2_000_000  # most in one tensor
_SHARE = 0.1  # of the largest loss in a mixture; components with smaller losses are not split
AIM = 0.2  # of the allowed loss: components are split down to it
POINTS = 256  # of the prior, which check the evidence under a likelihood of any shape
CHECKED_SPREAD = 30.0  # of an expected value over a component, as `MOST_SPREAD`, where these points check
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


def can(problems: Problems) -> Tensor:
    """Entities whose observations touch few coordinates, and are weak beside the prior, ``(B,)`` bool."""
    few = problems.touched_count <= max(RULES)
    if problems.settings.quadrature_below <= 0 or not bool(few.any()):
        return torch.zeros_like(few)
    scaled, observations = problems.scaled, problems.observations
    # the prior's points check functions too, see `_agreed`
    few &= _spread(scaled) < torch.where(observations.has_functions, CHECKED_SPREAD, MOST_SPREAD)
    if observations.likelihoods is not None:
        few &= _farther_out(scaled) < MOST_SPREAD
    return few


def answer(problems: Problems, index: Tensor) -> Answer:
    """Answers to the entities at `index`, whose loss is infinite where it is not below what the settings allow."""
    settings, observations, parts = problems.settings, problems.observations, []
    functions = observations.has_functions
    for some in groups(index, problems.pattern + (functions * (1 << problems.prior.dimension))):
        local = LocalProblem.of(
            problems.prior.rows(some), observations.rows_of(some), problems.axes_of(some[0])
        )
        below = settings.quadrature_below * (MORE_LOSS if bool(functions[some[0]]) else 1.0)
        parts.append(
            (some, _settled(local, _spread(problems.scaled.rows(some)) >= MOST_SPREAD, settings, below))
        )
    return joined(parts)


def _spread(scaled: Scaled) -> Tensor:
    """The gate's spread of each problem, ``(B,)``."""
    return gate(scaled.prior, scaled.observations, scaled.linear)


def _settled(local: LocalProblem, steep: Tensor, settings: UpdateSettings, below: float) -> Answer:
    """Answers, whose loss is infinite if it is not less than `below`, nats; `steep` ones are compared with a scan."""
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
    loss = torch.where(divergence < below, divergence, math.inf)
    return Answer.of(whole, solution.log_evidence, loss, Method.QUADRATURE)


def _missed(local: LocalProblem, whole: GaussianMixture, log_evidence: Tensor) -> Tensor:
    """Nats that answers miss, ``(B,)``, by a scan of the prior.

    A steep function, such as a logarithm near zero, may fit in a slice of the prior thinner than the distance between
    all points. A scan sees it, because it smooths the likelihood over its cells.
    """
    found = scan(local.prior, local.observations)
    return found.missed(local.localise(whole), log_evidence).sum(1)


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
