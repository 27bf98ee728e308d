"""Exact posteriors on a plain square raster in the plane, with the likelihood written out once more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from tests.inference.plain_models import Sensor


class Raster:
    """The posterior of one entity over a square of `side` about `middle`, ``count`` points a side."""

    def __init__(
        self,
        prior: GaussianMixture,
        sensors: Sequence[Sensor],
        middle: Sequence[float],
        side: float,
        count: int = 400,
    ) -> None:
        axis = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * side
        self.points = torch.cartesian_prod(middle[0] + axis, middle[1] + axis)
        joint = prior.log_density(self.points[None])[0]
        for sensor in sensors:
            joint = joint + _log_likelihood(sensor, self.points)
        self.mass = joint.softmax(0)
        self.log_density = joint - torch.logsumexp(joint, 0) - 2 * math.log(side / count)

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.mass @ self.points
        offset = self.points - mean
        return mean, (self.mass[:, None] * offset).mT @ offset

    def share(self, inside: Tensor) -> float:
        """Mass of the points where `inside` is True."""
        return float(self.mass[inside].sum())


def _log_likelihood(sensor: Sensor, points: Tensor) -> Tensor:
    """Of a range or an angle: Gaussian, or with the sensor's probability uniform over its span."""
    residual = sensor.value - torch.func.vmap(sensor.predict)(points)[:, 0]
    if sensor.kind == 2:  # an angle
        residual = (residual + math.pi) % (2 * math.pi) - math.pi
    height = 1 / (sensor.noise * math.sqrt(2 * math.pi))
    inlier = (1 - sensor.outlier_probability) * height * torch.exp(-0.5 * (residual / sensor.noise) ** 2)
    return torch.log(inlier + sensor.outlier_probability / sensor.span + 1e-300)
