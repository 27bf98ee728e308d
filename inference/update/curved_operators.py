"""`inference.update.curved_quadrature` by PyTorch's operators, on any device: the reference of its native form."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.network.linearisation import by_operators
from beliefstream.inference.update.curved_rules import Limits, Rule, outside, rules

STEPS = 4  # to the peak along a line
LIGHT = 1e-9  # share below which a part does not count
LIMITS = Limits()


class Frames(NamedTuple):
    """Components ``(B, K)`` in the frame of the observation, whose first axis is the line along which it changes."""

    state: Tensor  # (B, K, D), means
    means: Tensor  # (B, K, d), of the seen coordinates
    factors: Tensor  # (B, K, d, d), of their covariances, along the axes
    whole: Tensor  # (B, K, D, d), regression of the state on the axes
    rest: Tensor  # (B, K, D, D), covariance that is left
    bend: Tensor  # (B, K), as all below
    away: Tensor  # standard deviations to the other side of the sensor
    least: Tensor  # residual where the component has mass
    usable: Tensor  # bool: whether the observation changes at all
    certain: Tensor  # bool: whether a direction cannot wrap


class Nodes(NamedTuple):
    """Nodes of components: ``(B, K, M, d)`` in their frames, and logs ``(B, K, M)``."""

    places: Tensor
    logs: Tensor  # of weight × density × likelihood


def solve_by_operators(
    prior: GaussianMixture, observations: Observations, axes: Tensor, most: int, merge_below: float
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Posteriors, log evidence and divergence ``(B,)``, which is infinite where the answer must not be used.

    Args:
        prior: ``(B, K, D)``, the components in falling order of weight.
        observations: one for each entity.
        axes: coordinates that it touches, ``(B, d)``.
        most: components of an answer.
        merge_below: nats; components are merged if that loses less.
    """
    seen, single = _seen(prior, observations, axes)
    frames = _frames(prior, seen, single, axes)
    heavy = prior.log_weights > LIMITS.lightest
    number = (frames.bend[..., None] >= torch.tensor(LIMITS.bends[:2])).sum(-1)
    log_inlier = torch.log1p(-single.outlier_probability) - single.log_normaliser
    log_outlier = single.outlier_probability.log() + single.outlier_log_density
    # the residual is too large for an inlier, wherever a component has mass
    apart = (frames.least > 0) & (log_inlier - 0.5 * frames.least.square() < log_outlier - LIMITS.negligible)
    usable = frames.usable & (frames.certain | apart)
    parts, kept, masses = [], [], []
    for place, (fine, check) in enumerate(rules(axes.shape[1])):
        logs = prior.log_weights + log_inlier
        logs = torch.where(heavy & ~apart & (number == place), logs, -math.inf)
        nodes, other = _nodes(single, frames, fine, logs), _nodes(single, frames, check, logs)
        masses.append(_compared(nodes, other))
        parts.append(_parts(frames, nodes, fine))
        kept.append(nodes)
    outlier = torch.where(heavy, prior.log_weights + log_outlier, -math.inf)
    parts.append(GaussianMixture(outlier, prior.means, prior.covariances))
    kept.append(_outside(frames, outlier))
    joint = beside(parts)
    evidence = torch.logsumexp(joint.log_weights, 1)
    error = _error(masses, evidence)
    beyond = torch.where(heavy, -0.5 * frames.away.square(), 0.0)
    missed = torch.logsumexp(prior.log_weights + log_inlier + beyond, 1) - evidence
    sound = (usable | ~heavy).all(1) & (missed < LIMITS.missed) & (error < LIMITS.error)
    answer = reduce(joint, most, merge_below)
    points = torch.cat([_points(frames, nodes) for nodes in kept], 1)
    shares = (torch.cat([nodes.logs.flatten(1) for nodes in kept], 1) - evidence[:, None]).exp()
    exact = seen.log_density(points) + single.log_likelihood(points) - evidence[:, None]
    ratio = _marginal(answer, axes).log_density(points) - exact
    found = torch.where(shares > 0, shares * (torch.expm1(ratio) - ratio), 0.0).sum(1) + error
    return answer, evidence, torch.where(sound & ~found.isnan(), found, math.inf)


def _marginal(mixture: GaussianMixture, axes: Tensor) -> GaussianMixture:
    """Marginal over the coordinates `axes` ``(B, d)`` of each entity."""
    row = torch.arange(len(axes))[:, None]
    means = mixture.means.movedim(2, 1)[row, axes].movedim(1, 2)
    covariances = mixture.covariances.movedim((2, 3), (1, 2))[row[..., None], axes[:, :, None], axes[:, None]]
    return GaussianMixture(mixture.log_weights, means, covariances.movedim((1, 2), (2, 3)))


def _seen(
    prior: GaussianMixture, observations: Observations, axes: Tensor
) -> tuple[GaussianMixture, Observations]:
    """Prior and observation of each entity, ``(B, 1)``, in the coordinates that it touches."""
    row, place = torch.arange(len(axes))[:, None], observations.mask.int().argmax(1, keepdim=True)
    single = observations.map(lambda tensor: tensor[row, place])
    index = axes[:, None, None].expand(-1, 1, single.matrix.shape[2], -1)
    matrix, heading = single.matrix.gather(3, index), single.heading.gather(2, index[:, :, 0])
    return _marginal(prior, axes), replace(single, matrix=matrix, heading=heading)


def _frames(prior: GaussianMixture, seen: GaussianMixture, single: Observations, axes: Tensor) -> Frames:
    lower = seen.factors()
    linear = by_operators(single, seen.means, lower)
    slope, curvature = linear.slope[:, :, 0], linear.curvature[:, :, 0]
    spread = slope.square().sum(-1).sqrt()
    turned = _axes(slope / spread[..., None], curvature)
    factors = lower @ turned
    row = torch.arange(len(axes))[:, None]
    across = prior.covariances.movedim(3, 1)[row, axes].movedim(1, 3)  # (B, K, D, d)
    whole = across @ la.invert_lower(lower).mT @ turned
    whole = whole.movedim(2, 1).index_put((row, axes), factors.movedim(2, 1)).movedim(1, 2)
    rest = la.symmetrise(prior.covariances - whole @ whole.mT)
    unseen = torch.ones(len(axes), prior.dimension).scatter(1, axes, 0.0)[:, None]
    rest = torch.where(unseen[..., None, :] * unseen[..., None] > 0, rest, 0.0)
    relative = la.times(single.matrix, seen.means) - single.origin  # of one observation: (B, K, R)
    plain, is_angle = single.matrix @ lower, (single.kind == ANGLE) & (single.matrix.shape[2] > 1)
    used = (torch.arange(relative.shape[2]) < 2) | ~is_angle[..., None]
    relative = torch.where(used, relative, 0.0)
    bend = curvature.square().sum((-1, -2)).sqrt()
    radial = la.transpose_times(plain, relative).square().sum(-1).sqrt()
    # a bearing turns back behind its sensor, and a distance where it is shortest along the lines of nodes
    lines = la.times(plain, turned[..., 0])
    foot = (relative * lines).sum(-1).abs() / la.transpose_times(plain, lines).square().sum(-1).sqrt()
    away = torch.where(is_angle, relative.square().sum(-1) / radial, foot)
    deviation, off = single.standard_deviation, linear.residuals.signed[..., 0].abs()
    known = (spread * deviation <= LIMITS.angle) & (off * deviation <= LIMITS.turned)
    return Frames(
        prior.means,
        seen.means,
        factors,
        whole,
        rest,
        bend,
        away,
        (off - LIMITS.reach * spread - 0.5 * LIMITS.reach**2 * bend).clamp_min(0),
        (bend < LIMITS.bends[2]) & (away > LIMITS.away) & (spread > 0),
        known | ~is_angle,
    )


def _axes(first: Tensor, curvature: Tensor) -> Tensor:
    """Orthonormal axes ``(B, K, d, d)`` with that `first`; the second lies along the largest bend across it."""
    size = first.shape[-1]
    if size == 1:
        return torch.ones_like(curvature)
    # a reflection that moves the first axis of the coordinates to `first`
    apart = first.clone()
    apart[..., 0] = apart[..., 0] + torch.where(first[..., 0] >= 0, 1.0, -1.0)
    eye = torch.eye(size, dtype=first.dtype)
    reflected = eye - 2 * la.outer(apart, apart) / apart.square().sum(-1)[..., None, None]
    others = reflected[..., 1:]
    if size > 2:
        bent = curvature @ others
        others = others @ torch.linalg.eigh(torch.nan_to_num(bent.mT @ bent)).eigenvectors.flip(-1)
    return torch.cat([first[..., None], others], -1)


def _nodes(single: Observations, frames: Frames, rule: Rule, logs: Tensor) -> Nodes:
    """Nodes of each component times an inlier; `logs` ``(B, K)`` are constant factors."""
    across, log_across, along, log_along, _ = (torch.from_numpy(part) for part in rule)
    batch, count, size = frames.means.shape
    flat = (batch, count * len(across), size)
    bases = (
        frames.means[:, :, None]
        + la.times(frames.factors[:, :, None, :, 1:], across.expand(batch, count, -1, -1))
        if size > 1
        else frames.means[:, :, None]
    )
    factors = frames.factors[:, :, None].expand(-1, -1, len(across), -1, -1)
    line = factors[..., 0]

    def at(peak: Tensor) -> tuple[Tensor, Tensor]:
        points = (bases + peak[..., None] * line).reshape(flat)
        linear = by_operators(single, points, factors.reshape(*flat, size))
        off, slope = linear.residuals.signed[..., 0], linear.slope[..., 0, 0]
        return off.view(peak.shape), slope.view(peak.shape)

    peak = bases.new_zeros(batch, count, len(across))
    for _ in range(STEPS):
        off, slope = at(peak)
        peak = slope * (off + slope * peak) / (1 + slope.square())
    width = (1 + at(peak)[1].square()).rsqrt()
    places = peak[..., None] + width[..., None] * along
    points = bases[..., None, :] + places[..., None] * line[..., None, :]
    off = single.residuals(points.reshape(batch, -1, size)).signed[..., 0].view(places.shape)
    found = (log_across + width.log())[..., None] + log_along - 0.5 * places.square() - 0.5 * off.square()
    steps = across[:, None].expand(batch, count, -1, len(along), -1)
    return Nodes(torch.cat([places[..., None], steps], -1).flatten(2, 3), found.flatten(2) + logs[..., None])


def _outside(frames: Frames, logs: Tensor) -> Nodes:
    """Nodes of each component times an outlier."""
    nodes, log_shares = (torch.from_numpy(part) for part in outside(frames.means.shape[2]))
    return Nodes(nodes.expand(*logs.shape, -1, -1), logs[..., None] + log_shares)


def _points(frames: Frames, nodes: Nodes) -> Tensor:
    """The nodes of all components in the seen coordinates, ``(B, P, d)``."""
    return (frames.means[:, :, None] + la.times(frames.factors[:, :, None], nodes.places)).flatten(1, 2)


def _moments(places: Tensor, logs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log mass ``(...)``, mean and covariance of weighted nodes ``(..., M, d)``; zero and one without any weight."""
    mass = torch.logsumexp(logs, -1)
    shares = torch.where(mass[..., None] > -math.inf, torch.softmax(logs, -1), 0.0)[..., None]
    mean = (shares * places).sum(-2)
    offset = places - mean[..., None, :]
    covariance = (shares[..., None] * la.outer(offset, offset)).sum(-3)
    eye = torch.eye(places.shape[-1], dtype=places.dtype)
    return mass, mean, torch.where((mass > -math.inf)[..., None, None], covariance, eye)


def _parts(frames: Frames, nodes: Nodes, rule: Rule) -> GaussianMixture:
    """Moments of the parts of each component, over the whole state; not normalised."""
    shares = torch.from_numpy(rule.parts).log().repeat_interleave(len(rule.along), 1)  # (J, M)
    mass, mean, covariance = _moments(nodes.places[:, :, None], nodes.logs[:, :, None] + shares)
    whole = torch.logsumexp(nodes.logs, 2, keepdim=True)
    mass = torch.where(mass - whole > math.log(LIGHT), mass, -math.inf)
    gain = frames.whole[:, :, None]
    return GaussianMixture(
        mass.flatten(1),
        (frames.state[:, :, None] + la.times(gain, mean)).flatten(1, 2),
        (frames.rest[:, :, None] + la.symmetrise(gain @ covariance @ gain.mT)).flatten(1, 2),
    )


def _compared(nodes: Nodes, other: Nodes) -> tuple[Tensor, Tensor, Tensor]:
    """Log masses of each component by two rules, and the divergence between their moments in nats, ``(B, K)``."""
    mass, mean, covariance = _moments(nodes.places, nodes.logs)
    second, there, spread = _moments(other.places, other.logs)
    tiny, offset = torch.finfo(mass.dtype).tiny, there - mean
    inverse = la.invert(covariance, tiny)
    found = la.trace(inverse @ spread) - mean.shape[-1] + la.quadratic(inverse, offset, offset)
    volumes = [la.log_diagonal(la.cholesky(each, tiny)) for each in (covariance, spread)]
    return mass, second, (found / 2 + volumes[0] - volumes[1]).clamp_min(0)


def _error(compared: list[tuple[Tensor, Tensor, Tensor]], evidence: Tensor) -> Tensor:
    """Divergence in nats between the results of the rules, ``(B,)``, as `gauss_hermite.apart`."""
    error, off = torch.zeros_like(evidence), torch.zeros_like(evidence)
    for mass, other, apart in compared:
        share = (mass - evidence[:, None]).exp()
        counts = share > LIGHT
        ratio = torch.where(counts, other - mass, 0.0)
        error = error + torch.where(counts, share * (apart + torch.expm1(ratio) - ratio), 0.0).sum(1)
        off = off + torch.where(counts, share * torch.expm1(ratio), 0.0).sum(1)
    return error + off.square() / 2
