"""Scores of beliefs against the truth: error of the mean, density at the truth, calibration.

The *level* of a truth is the mass of the points where the belief is denser than at the truth. For correct beliefs it is
uniform on [0, 1]. So the 90 % highest-density region, which is level ≤ 0.9, contains the truth in 90 % of cases
(Hyndman, "Computing and graphing highest density regions", The American Statistician 50(2), 1996).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.evaluation.baselines.particle import ParticleFilter
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture

REGION = 0.9  # mass of the region of the reported coverage


class Summary(NamedTuple):
    """Averages over all cases, in the units of the coordinates and in nats."""

    cases: int
    rmse: float  # root mean square distance of the mean from the truth
    median: float  # median of that distance
    negative_log_likelihood: float  # mean negative log density at the truth
    coverage90: float  # share of truths inside the 90 % highest-density region


@lru_cache(maxsize=8)
def _quasi_random(count: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Return `count` fixed uniform numbers ``(count,)`` and standard normal vectors ``(count, dimension)``."""
    engine = torch.quasirandom.SobolEngine(dimension + 1, scramble=True, seed=11)  # type: ignore[no-untyped-call]
    uniform = engine.draw(count, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    return uniform[:, 0].contiguous(), torch.special.ndtri(uniform[:, 1:])


def mixture_points(mixture: GaussianMixture, count: int) -> Tensor:
    """Return `count` quasi-random points of each mixture, the same for each call, ``(B, count, D)``."""
    pick, normal = _quasi_random(count, mixture.dimension)
    weights = mixture.log_weights.softmax(-1)
    cumulative = weights.cumsum(-1)
    values = pick.to(weights).expand(mixture.batch, count).contiguous()
    source = torch.searchsorted(cumulative, values, right=True)
    last = (mixture.present * torch.arange(mixture.components, device=weights.device)).amax(-1, keepdim=True)
    source = torch.minimum(source, last)
    row = torch.arange(mixture.batch, device=weights.device)[:, None]
    return mixture.means[row, source] + la.times(mixture.factors()[row, source], normal.to(mixture.means))


def mixture_level(mixture: GaussianMixture, truth: Tensor, count: int = 512) -> Tensor:
    """Return the level ``(B,)`` of `truth` ``(B, D)`` under a normalised mixture, from `count` points."""
    densest = mixture.log_density(mixture_points(mixture, count))
    return (densest > mixture.log_density(truth[:, None])).to(truth.dtype).mean(-1)


def particle_level(
    belief: ParticleFilter, truth: Tensor, axes: Sequence[int] | None = None, count: int = 128
) -> Tensor:
    """Return the level ``(B,)`` of `truth` ``(B, len(axes))`` under the kernel density over the coordinates `axes`."""
    points = torch.cat([truth[:, None].to(torch.float64), belief.sample(count, axes)], 1)
    density = belief.log_density(points, axes)
    return (density[:, 1:] > density[:, :1]).to(truth.dtype).mean(-1)


class Score:
    """Accumulates the scores of the beliefs of a filter."""

    def __init__(self) -> None:
        self._distance: list[Tensor] = []
        self._log_density: list[Tensor] = []
        self._level: list[Tensor] = []

    def add(self, truth: Tensor, mean: Tensor, log_density: Tensor, level: Tensor) -> None:
        """Add ``B`` beliefs.

        Args:
            truth: true coordinates, ``(B, d)``.
            mean: mean of the belief, ``(B, d)``.
            log_density: log density of the belief at the truth, nats, ``(B,)``.
            level: level of the truth, ``(B,)``.

        Raises:
            ValueError: the shapes do not agree.
        """
        batch = truth.shape[:1]
        if mean.shape != truth.shape or log_density.shape != batch or level.shape != batch:
            shapes = [tuple(part.shape) for part in (truth, mean, log_density, level)]
            raise ValueError(
                f"truth, mean, log_density, level: expected (B, d), (B, d), (B,), (B,), got {shapes}"
            )
        self._distance.append((mean - truth).square().sum(-1).sqrt().to("cpu", torch.float64))
        self._log_density.append(log_density.to("cpu", torch.float64))
        self._level.append(level.to("cpu", torch.float64))

    def summary(self) -> Summary:
        """Return the averages over all added beliefs; NaN if there are none."""
        if not self._distance:
            return Summary(0, math.nan, math.nan, math.nan, math.nan)
        distance = torch.cat(self._distance)
        return Summary(
            cases=len(distance),
            rmse=float(distance.square().mean().sqrt()),
            median=float(distance.quantile(0.5)),
            negative_log_likelihood=-float(torch.cat(self._log_density).mean()),
            coverage90=float((torch.cat(self._level) <= REGION).to(torch.float64).mean()),
        )
