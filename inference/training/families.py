"""Families of problems: a prior, a state drawn from it, and observations of that state.

A problem is made in coordinates in which its prior has mean zero and unit average spread, as the network gets it from
`inference.update.updater`. The included weights are trained on `mixed`, in any dimension. `planar` is the family of the
accuracy tables: position, range and bearing sensors in the plane, 0.3 to 20 prior spreads away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import (
    ANGLE,
    LINEAR,
    RANGE,
    WIDE_OUTLIER,
    Observations,
    wrap,
)
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture


class Problems(NamedTuple):
    """A batch of ``B`` problems.

    Attributes:
        prior: ``(B, K)`` over ``d`` coordinates.
        source: component that each state was drawn from, ``(B,)``.
        state: true states, ``(B, d)``.
        observations: observations of the states.
    """

    prior: GaussianMixture
    source: Tensor
    state: Tensor
    observations: Observations


class Family(Protocol):
    """A distribution of problems, to train on or to evaluate with."""

    @property
    def name(self) -> str: ...

    def sample(self, batch: int, dimension: int, generator: torch.Generator) -> Problems: ...


@dataclass
class Draw:
    """Draws random numbers from one generator."""

    generator: torch.Generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator)

    def exponential(self, *shape: int) -> Tensor:
        return torch.empty(shape).exponential_(generator=self.generator)

    def rotations(self, *shape: int, dimension: int) -> Tensor:
        """Draw orthogonal matrices by Gram-Schmidt of normal columns, ``(*shape, d, d)``."""
        normal = self.normal(*shape, dimension, dimension)
        columns: list[Tensor] = []
        for index in range(dimension):
            column = normal[..., index]
            for earlier in columns:
                column = column - (earlier * column).sum(-1, keepdim=True) * earlier
            columns.append(column / la.norm(column, True))
        return torch.stack(columns, -1)


def sample_prior(draw: Draw, batch: int, components: int, dimension: int) -> GaussianMixture:
    """Draw mixtures of 1 to `components`, with an extra quarter of Gaussians, scaled to mean 0 and unit spread."""
    count = draw.integers(1, components + 1, batch)
    count = torch.where(draw.uniform(batch) < 0.25, torch.ones_like(count), count)
    present = torch.arange(components) < count[:, None]
    weights = draw.exponential(batch, components).clamp_min(1e-6) * present
    weights = weights / weights.sum(1, keepdim=True)
    distance = draw.log_uniform(batch, 1, 1, low=0.3, high=3.0)
    means = draw.normal(batch, components, dimension) * distance
    deviations = draw.log_uniform(batch, components, dimension, low=0.1, high=1.0)
    rotation = draw.rotations(batch, components, dimension=dimension)
    covariances = (rotation * deviations.square()[..., None, :]) @ rotation.mT
    mixture = GaussianMixture(weights.log(), means, covariances)
    mean, covariance = mixture.moments()
    scale = (la.trace(covariance) / dimension).sqrt()[:, None, None]
    return GaussianMixture(
        weights.log(), (means - mean[:, None]) / scale, covariances / scale[..., None].square()
    )


def _draw_state(draw: Draw, prior: GaussianMixture) -> tuple[Tensor, Tensor]:
    source = torch.multinomial(prior.log_weights.exp(), 1, generator=draw.generator)[:, 0]
    row = torch.arange(prior.batch)
    factors = prior.factors()[row, source]
    return source, prior.means[row, source] + la.times(factors, draw.normal(prior.batch, prior.dimension))


@dataclass(frozen=True)
class Mixed:
    """Family in any dimension, with vectors, rows, ranges in a subspace, and angles in a plane minus a linear term."""

    name: str = "mixed"
    components: int = 8
    most: int = 6
    isotropic: bool = False  # sensors of the whole position only, with one standard deviation
    kinds: tuple[str, ...] = ("vector", "row", "range", "angle")
    outlier_span: tuple[float, float] = (10.0, 100.0)  # log-uniform width of the outliers of a range

    def sample(self, batch: int, dimension: int, generator: torch.Generator) -> Problems:
        draw = Draw(generator)
        prior = sample_prior(draw, batch, self.components, dimension)
        source, state = _draw_state(draw, prior)
        return Problems(prior, source, state, self._observe(draw, state))

    def _observe(self, draw: Draw, state: Tensor) -> Observations:
        batch, size = state.shape
        shape = (batch, self.most)
        allowed = [k for k in self.kinds if k != "angle" or size > 1]
        which = draw.integers(0, len(allowed), *shape)
        is_vector, is_row, is_range, is_angle = (
            which == allowed.index(k) if k in allowed else torch.zeros(shape, dtype=torch.bool)
            for k in ("vector", "row", "range", "angle")
        )
        mask = torch.arange(self.most) < draw.integers(1, self.most + 1, batch)[:, None]
        deviation = torch.where(is_vector, draw.log_uniform(*shape, low=0.05, high=2.0), 0.0)
        deviation = torch.where(is_row | is_range, draw.log_uniform(*shape, low=0.03, high=1.0), deviation)
        deviation = torch.where(is_angle, draw.log_uniform(*shape, low=0.01, high=0.5), deviation)
        matrix, rows = self._matrices(draw, (is_vector, is_row, is_range, is_angle), deviation, size)
        nonlinear = (is_range | is_angle)[..., None]
        direction = draw.normal(*shape, size) * (matrix.square().sum(-1) > 0)
        direction = direction / (la.norm(direction, True))
        origin = direction * draw.log_uniform(*shape, 1, low=0.3, high=20.0) * nonlinear
        heading = torch.zeros(*shape, size)
        if size > 2 and not self.isotropic:
            turned = draw.rotations(*shape, dimension=size)[..., -1]
            heading = turned * (is_angle & (draw.uniform(*shape) < 0.5))[..., None]
        probability = torch.where(
            draw.uniform(*shape) < 0.5, torch.zeros(shape), draw.uniform(*shape, high=0.3)
        )
        span = draw.log_uniform(*shape, low=self.outlier_span[0], high=self.outlier_span[1])
        span = torch.where(is_angle, torch.full(shape, 2 * math.pi), span)
        linear = is_vector | is_row
        observations = Observations(
            kind=torch.where(linear, LINEAR, torch.where(is_range, RANGE, ANGLE)),
            mask=mask,
            value=torch.zeros(*shape, size),
            matrix=matrix,
            origin=origin,
            heading=heading,
            standard_deviation=torch.where(linear, torch.ones(shape), deviation),
            rows=rows,
            log_scale=rows * deviation.log(),
            outlier_probability=probability,
            outlier_log_density=-span.log(),
        )
        return _with_values(draw, observations, state, span)

    def _matrices(
        self, draw: Draw, kinds: tuple[Tensor, Tensor, Tensor, Tensor], deviation: Tensor, size: int
    ) -> tuple[Tensor, Tensor]:
        """Return the rows that each sensor measures, whitened if it is linear, and its number of values."""
        is_vector, is_row, is_range, is_angle = kinds
        shape = is_vector.shape
        rotation = draw.rotations(*shape, dimension=size)
        seen = draw.integers(min(2, size), min(3, size) + 1, *shape)
        few = torch.ones_like(seen)
        seen = torch.where(is_range & (draw.uniform(*shape) < 0.1) & (not self.isotropic), few, seen)
        seen = torch.where(is_angle, torch.full_like(seen, 2), seen)
        all_rows = torch.full_like(seen, size)
        if not self.isotropic and size > 1:
            partial = draw.integers(1, size + 1, *shape)
            all_rows = torch.where(draw.uniform(*shape) < 0.3, partial, all_rows)
        seen = torch.where(is_vector, all_rows, torch.where(is_row, few, seen))
        matrix = rotation * (torch.arange(size) < seen[..., None])[..., None]
        linear = (is_vector | is_row)[..., None, None]
        matrix = torch.where(linear, matrix / deviation[..., None, None], matrix)
        return matrix, torch.where(is_vector, seen, few).to(matrix.dtype)


def _with_values(draw: Draw, observations: Observations, state: Tensor, span: Tensor) -> Observations:
    """Draw the values reported at `state`, with noise and outliers."""
    shape, size = observations.kind.shape, state.shape[-1]
    outlier = draw.uniform(*shape) < observations.outlier_probability
    relative = la.times(observations.matrix, state[:, None]) - observations.origin
    distance = relative.square().sum(-1).sqrt()
    noise = draw.normal(*shape, size)
    wide = torch.where(outlier, WIDE_OUTLIER, 1.0)[..., None]
    present = observations.matrix.square().sum(-1) > 0
    several = relative + noise * wide * present
    scalar = observations.standard_deviation * noise[..., 0]
    reported = torch.where(outlier, draw.uniform(*shape) * span, distance + scalar)
    if size > 1:
        turn = (observations.heading * state[:, None]).sum(-1)
        angle = torch.atan2(relative[..., 1], relative[..., 0]) - turn + scalar
        angle = wrap(torch.where(outlier, draw.uniform(*shape) * 2 * math.pi, angle))
        reported = torch.where(observations.kind == ANGLE, angle, reported)
    first = torch.zeros(*shape, size)
    first[..., 0] = reported
    value = torch.where((observations.kind == LINEAR)[..., None], several, first)
    return replace(observations, value=value)


def planar() -> Mixed:
    """Return the family of positions, ranges and bearings; outliers of a range are uniform on 40 prior spreads."""
    return Mixed("planar", isotropic=True, kinds=("vector", "range", "angle"), outlier_span=(40.0, 40.0))


def mixed() -> Mixed:
    """Return the training family of the included weights."""
    return Mixed()


FAMILIES = {"planar": planar, "mixed": mixed}
