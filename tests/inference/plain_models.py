"""Mixtures and sensors for the tests, and the measurement models written out plainly once more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, LINEAR, RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import FixedStep
from beliefstream.inference.tracking.events import Array, Belief


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal within `tolerance`, absolute or relative."""
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def log_density(belief: Belief, points: Array) -> Array:
    """Log density of a belief at points ``(P, D)``."""
    parts = []
    for weight, mean, matrix in zip(belief.weights, belief.means, belief.covariances, strict=True):
        offset = points - mean
        squared = np.einsum("pi,ij,pj->p", offset, np.linalg.inv(matrix), offset)
        parts.append(math.log(weight) - 0.5 * squared - 0.5 * np.linalg.slogdet(2 * math.pi * matrix)[1])
    return np.asarray(np.logaddexp.reduce(parts))


def random_normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def random_covariances(seed: int, *shape: int, dimension: int) -> Tensor:
    """Well conditioned, of about unit size."""
    root = random_normal(seed, *shape, dimension, dimension)
    return root @ root.mT / dimension + 0.2 * torch.eye(dimension, dtype=torch.float64)


def fixed_step(transition: Tensor, noise: Tensor) -> FixedStep:
    """The motion ``x ← transition x + N(0, noise)``, once a second."""
    matrix, spread = (tuple(map(tuple, part.tolist())) for part in (transition, noise))
    return FixedStep(matrix, spread)


def random_mixture(seed: int, batch: int, components: int, dimension: int) -> GaussianMixture:
    log_weights = torch.log_softmax(random_normal(seed, batch, components), -1)
    means = 1.5 * random_normal(seed + 1, batch, components, dimension)
    return GaussianMixture(
        log_weights, means, random_covariances(seed + 2, batch, components, dimension=dimension)
    )


@dataclass(frozen=True)
class Sensor:
    """One observation of one entity; `noise` in the sensor's own units."""

    kind: int
    matrix: Tensor  # (R, D), not whitened
    value: Tensor  # (R,) if linear, else (1,)
    noise: float
    origin: Tensor | None = None
    heading: Tensor | None = None
    outlier_probability: float = 0.0
    span: float = field(default=2 * math.pi)  # of uniform outliers

    def predict(self, state: Tensor) -> Tensor:
        """``h(state)``, of one state ``(D,)``."""
        if self.kind == LINEAR:
            return self.matrix @ state
        assert self.origin is not None
        relative = self.matrix @ state - self.origin
        if self.kind == RANGE:
            return relative.square().sum().sqrt()[None]
        heading = torch.zeros_like(state) if self.heading is None else self.heading
        return (torch.atan2(relative[1], relative[0]) - heading @ state)[None]


def linear(matrix: Tensor, value: Tensor, noise: float, outlier_probability: float = 0.0) -> Sensor:
    return Sensor(LINEAR, matrix, value, noise, outlier_probability=outlier_probability)


def distance(
    origin: Tensor, value: float, noise: float, outlier_probability: float = 0.0, span: float = 50.0
) -> Sensor:
    """A range in all of the coordinates."""
    eye = torch.eye(len(origin), dtype=torch.float64)
    return Sensor(RANGE, eye, numbers(value), noise, origin, None, outlier_probability, span)


def bearing(origin: Tensor, value: float, noise: float, outlier_probability: float = 0.0) -> Sensor:
    """An angle in the plane."""
    eye = torch.eye(2, dtype=torch.float64)
    return Sensor(ANGLE, eye, numbers(value), noise, origin, None, outlier_probability)


def observe(*entities: Sequence[Sensor]) -> Observations:
    """A batch: the sensors of each entity, padded with places that are not used."""
    size = entities[0][0].matrix.shape[1]
    shape, rows = (len(entities), max(map(len, entities))), max(2, size)
    zero = torch.zeros(shape, dtype=torch.float64)
    observations = Observations(
        kind=zero.long(),
        mask=zero.bool(),
        value=zero.new_zeros(*shape, rows),
        matrix=zero.new_zeros(*shape, rows, size),
        origin=zero.new_zeros(*shape, rows),
        heading=zero.new_zeros(*shape, size),
        standard_deviation=zero + 1,
        rows=zero + 1,
        log_scale=zero.clone(),
        outlier_probability=zero.clone(),
        outlier_log_density=zero.clone(),
    )
    for row, sensors in enumerate(entities):
        for column, sensor in enumerate(sensors):
            _place(observations, (row, column), sensor)
    return observations


def _place(observations: Observations, at: tuple[int, int], sensor: Sensor) -> None:
    is_linear, rows = sensor.kind == LINEAR, len(sensor.matrix)
    unit = sensor.noise if is_linear else 1.0  # the rows of a linear sensor are whitened
    measured = len(sensor.value)
    observations.kind[at] = sensor.kind
    observations.mask[at] = True
    observations.value[at][:measured] = sensor.value / unit
    observations.matrix[at][:rows] = sensor.matrix / unit
    if sensor.origin is not None:
        observations.origin[at][:rows] = sensor.origin
    if sensor.heading is not None:
        observations.heading[at][:] = sensor.heading
    observations.standard_deviation[at] = 1.0 if is_linear else sensor.noise
    observations.rows[at] = measured
    observations.log_scale[at] = measured * math.log(sensor.noise)
    observations.outlier_probability[at] = sensor.outlier_probability
    observations.outlier_log_density[at] = -math.log(sensor.span)
