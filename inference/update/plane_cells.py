"""Posteriors in the plane as cells, or as lines around a sensor; see `inference.update.subdivision`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update.importance import TRUNCATION, Quality, Weighted, quality
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.polar_rules import LEAST_GAIN, LEAST_SHARE, MERGED_TO_BEGIN, MOST_UNCERTAIN
from beliefstream.inference.update.wide_components import WIDER

if TYPE_CHECKING:  # of native forms, which need Numba
    from beliefstream.inference.mixtures.native_fitting import Places, Points
    from beliefstream.inference.update.native_measured import Measured

CHANGE, FINEST = 0.25, 0.03  # see `native_subdivision.Limits`
DROPPED, ROUGH, COARSE, ENOUGH = 1e-7, 3e-4, 0.01, 600
SIZES = (6144, 768, 1024)  # the most cells; points of the fit, and of the measurement
# nats between log evidences: those of cells and smoothed cells, and of cells and points
MOST_APART, MOST_OFF = 0.1, 0.1
FARTHEST = 18.0  # deviations of the prior, within which its components must lie


@dataclass(frozen=True)
class Cells:
    """Posteriors as cells; absent points have no share."""

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
        return Cells(*(getattr(self, field.name)[index] for field in fields(self)))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(B, 2)`` and covariance ``(B, 2, 2)`` of the posterior."""
        mean = (self.shares[..., None] * self.centres).sum(1)
        offset = self.centres - mean[:, None]
        return mean, la.symmetrise((self.shares[..., None] * offset).mT @ offset)

    def fit(self, start: int, wide: Tensor, steps: int) -> GaussianMixture:
        """Fit as many components as `start`, one of them as wide as all cells where it is `wide` ``(B,)``."""
        points = self.centres, self.shares, self.spreads
        found: GaussianMixture = _fitting().fit(*points, wide, start, steps, LEAST_GAIN)
        return found

    def quality(self, answer: GaussianMixture) -> Quality:
        """Quality of an answer, on the points."""
        nothing = self.target.new_zeros(len(self.target), 0, self.target.shape[1])
        log_answer = answer.log_density(self.points)
        weighted = Weighted(self.points, self.target, self.proposal, log_answer, nothing)
        # points within cells have less error than the independent ones that a standard error is about
        return quality(weighted)._replace(log_evidence=self.log_evidence, deviation=self.error)

    def draw(self, count: int) -> Tensor:
        """As many points ``(B, count, 2)`` of an equal share each, whatever the batch."""
        share = torch.softmax(self.target - self.proposal, 1)
        places = (torch.arange(count).double() + 0.5) / count
        chosen = torch.searchsorted(share.cumsum(1), places.repeat(len(share), 1))
        chosen = chosen.clamp_max(share.shape[1] - 1)
        return self.points.gather(1, chosen[..., None].expand(-1, -1, 2))


@dataclass(frozen=True)
class Lines:
    """Posteriors as strips around a sensor and their nodes, those of all problems one after another."""

    start: GaussianMixture | None  # of a fit, where a prior has several components
    sound: Tensor  # as of `Cells`, with all below
    error: Tensor
    log_evidence: Tensor
    inlier: Tensor  # share of the posterior, (B,)
    strips: Points
    nodes: Measured
    places: Places  # (B, 3) of strips, and (B, 2) of nodes; see `native_polar_work.Gathered`
    node_places: Places

    def rows(self, index: Tensor) -> Lines:
        """The lines of the problems at `index`."""
        places = self.places[index.numpy()], self.node_places[index.numpy()]
        start = None if self.start is None else self.start.rows(index)
        vectors = self.sound[index], self.error[index], self.log_evidence[index], self.inlier[index]
        return Lines(start, *vectors, self.strips, self.nodes, *places)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(B, 2)`` and covariance ``(B, 2, 2)`` of the posterior."""
        found: tuple[Tensor, Tensor] = _measuring().moments(self.strips, self.places[:, ::2])
        return found

    def fit(self, start: GaussianMixture | int, wide: Tensor, steps: int) -> GaussianMixture:
        """As `Cells.fit`; from a mixture too."""
        return self._fit(self.places[:, ::2], start, wide, steps)

    def fit_inlier(self, start: int, steps: int) -> GaussianMixture:
        """Fit the part of the posterior that is of an inlier; weights add up to its share."""
        return self._fit(self.places[:, :2], start, torch.zeros(len(self.sound), dtype=torch.bool), steps)

    def _fit(self, places: Places, start: GaussianMixture | int, wide: Tensor, steps: int) -> GaussianMixture:
        places = np.ascontiguousarray(places)
        found: GaussianMixture = _fitting().fit_to(
            self.strips, places, wide, start, steps, LEAST_GAIN, lines=True
        )
        return found

    def quality(self, answer: GaussianMixture) -> Quality:
        """Quality of an answer, on the nodes."""
        found = _measuring().quality(answer, self.nodes, self.node_places, self.log_evidence, TRUNCATION)
        return Quality(found[0], self.log_evidence, found[1], self.error)

    def draw(self, count: int) -> Tensor:
        """As `Cells.draw`, of the nodes."""
        found: Tensor = _measuring().draw(self.nodes, self.node_places, count)
        return found


def _fitting() -> Any:
    native = native_form("mixtures.native_fitting")
    assert native is not None
    return native


def _measuring() -> Any:
    native = native_form("update.native_measured")
    assert native is not None
    return native


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
    return Cells(sound, error, evidence[0], centres, shares, spreads, points, target, proposal)


def lines(local: LocalProblem, most: int) -> Lines:
    """Strips and nodes of one range or bearing around the sensor, as `inference.update.polar_quadrature`.

    Where a prior has several components, a fit begins with their parts of the posterior, reduced to `most`.
    """
    native = native_form("update.native_polar_quadrature", local.prior64.means)
    assert native is not None
    limits = MERGED_TO_BEGIN, WIDER, LEAST_SHARE
    several = bool((local.prior64.present.sum(1) > 1).any())
    start, evidence, found = native.lines(
        local.prior64, local.observations64.native, most if several else 0, limits
    )
    uncertain = torch.from_numpy(found.uncertain)
    first, inliers, end = found.places.T
    # without a start, a fit is to the strips of an inlier
    there = (end if several else inliers) > first
    return Lines(
        start if several else None,
        torch.from_numpy(there) & (uncertain < MOST_UNCERTAIN),
        uncertain,
        evidence,
        torch.from_numpy(found.inlier),
        found.strips,
        found.nodes,
        found.places,
        found.node_places,
    )
