"""Posteriors in the plane as cells, or as lines around a sensor; see `inference.update.subdivision`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update import importance
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.wide_components import WIDER

CHANGE, FINEST = 0.25, 0.03  # see `native_subdivision.Limits`
DROPPED, ROUGH, COARSE, ENOUGH = 1e-7, 3e-4, 0.01, 600
SIZES = (6144, 768, 1024)  # the most cells; points of the fit, and of the measurement
# nats between log evidences: those of cells and smoothed cells, and of cells and points
MOST_APART, MOST_OFF = 0.1, 0.1
FARTHEST = 18.0  # deviations of the prior, within which its components must lie
MOST_UNCERTAIN = 0.01  # share of a posterior, of lines
MERGED_BELOW, LEAST_SHARE = (
    1e-4,
    1e-4,
)  # of the mixture that a fit to lines begins with; nats, and weight of a wide one


@dataclass(frozen=True)
class Cells:
    """Posteriors as cells, or as lines around a sensor; absent points have no share."""

    start: GaussianMixture | None  # of a fit to lines
    inliers: Tensor | None  # how many of the lines are of an inlier; they are the first, (B,)
    sound: Tensor  # whether the evidences agree, (B,) bool
    error: Tensor  # of a divergence: between evidences, and from coarse cells, nats (B,)
    log_evidence: Tensor  # (B,)
    centres: Tensor  # of a sample of the cells, (B, F, 2)
    shares: Tensor  # (B, F)
    spreads: Tensor  # covariance within a cell as xx, xy, yy, (B, F, 3)
    points: Tensor  # two within each cell of another sample, (B, P, 2)
    target: Tensor  # log of prior × likelihood, (B, P)
    proposal: Tensor  # log density of the points, (B, P)

    def rows(self, index: Tensor) -> Cells:
        """The cells of the problems at `index`."""
        start = None if self.start is None else self.start.rows(index)
        inliers = None if self.inliers is None else self.inliers[index]
        tensors = (getattr(self, field.name)[index] for field in fields(self)[2:])
        return Cells(start, inliers, *tensors)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(B, 2)`` and covariance ``(B, 2, 2)`` of the posterior."""
        mean = (self.shares[..., None] * self.centres).sum(1)
        offset = self.centres - mean[:, None]
        return mean, la.symmetrise((self.shares[..., None] * offset).mT @ offset)

    def weigh(self, answer: GaussianMixture) -> importance.Weighted:
        """The points as importance points of an answer."""
        nothing = self.target.new_zeros(len(self.target), 0, self.target.shape[1])
        log_answer = answer.log_density(self.points)
        return importance.Weighted(self.points, self.target, self.proposal, log_answer, nothing)


def cells(local: LocalProblem) -> Cells:
    """Subdivide the plane for each problem."""
    native = native_form("update.native_subdivision", local.prior64.means)
    assert native is not None
    prior = local.prior64
    mean, covariance = prior.moments()
    factor = la.cholesky(covariance, torch.finfo(covariance.dtype).tiny)
    offsets = la.times(la.invert_lower(factor)[:, None], prior.means - mean[:, None]).abs().amax(2)
    inside = (~prior.present | (offsets < FARTHEST)).all(1)
    limits = native.Limits(CHANGE, DROPPED, ROUGH, COARSE, ENOUGH, FINEST)
    found = native.subdivide(local.observations64.native, prior, mean, factor, limits, SIZES)
    counts, evidence, added, centres, shares, spreads, points, target, proposal = map(torch.from_numpy, found)
    drawn = torch.logsumexp(target - proposal, 1) - math.log(target.shape[1])
    apart, off = (evidence[0] - evidence[1]).abs(), (evidence[0] - drawn).abs()
    sound = inside & (counts > 0) & (apart < MOST_APART) & (off < MOST_OFF)
    error = added + torch.maximum(apart, off)
    return Cells(None, None, sound, error, evidence[0], centres, shares, spreads, points, target, proposal)


def lines(local: LocalProblem, most: int) -> Cells:
    """As `cells`, of one range or bearing: lines around the sensor, as `inference.update.polar_quadrature`.

    Where a prior has several components, a fit begins with their parts of the posterior, reduced to `most`.
    """
    native = native_form("update.native_polar_quadrature", local.prior64.means)
    assert native is not None
    limits = MERGED_BELOW, WIDER, LEAST_SHARE
    several = bool((local.prior64.present.sum(1) > 1).any())
    start, evidence, found = native.lines(
        local.prior64, local.observations64.native, most if several else 0, limits
    )
    counts, uncertain = torch.from_numpy(found.counts), torch.from_numpy(found.uncertain)
    shares, moments, nodes, placed, target = map(torch.from_numpy, found[2:])
    points = target.shape[1]
    # so that each point has its share: of the evidence, and of all points
    proposal = target - evidence[:, None] - (nodes / nodes.sum(1, keepdim=True)).log() - math.log(points)
    return Cells(
        start if several else None,
        counts[:, 2],
        (counts > 0).all(1) & (uncertain < MOST_UNCERTAIN),
        uncertain,
        evidence,
        moments[..., :2],
        shares / shares.sum(1, keepdim=True),
        moments[..., 2:],
        placed,
        target,
        torch.where(nodes > 0, proposal, 0.0),
    )
