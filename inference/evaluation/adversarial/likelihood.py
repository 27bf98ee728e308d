"""Likelihoods of sensors in numpy, float64, from what the documentation of each kind says.

This is the oracle's: of the library it uses the numbers that a sensor holds and nothing else. An outlier probability of
zero is exactly zero and no length is softened. Every likelihood is also offered *widened*: with the spread that a
prediction has inside a cell added to the noise, so that a coarse cell sees a ridge that is narrower than itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LINEAR, RANGE, ANGLE, FUNCTION = 0, 1, 2, 3
LOG_TWO_PI = math.log(2 * math.pi)


def wrapped(angle: Array) -> Array:
    """To [−π, π)."""
    return np.remainder(angle + math.pi, 2 * math.pi) - math.pi


def _range_rate(u: Array) -> Array:
    size = u.shape[-1] // 2
    return (u[..., :size] * u[..., size:]).sum(-1) / np.linalg.norm(u[..., :size], axis=-1)


def _signal_strength(u: Array, exponent: Array, reference_distance: Array, reference_power: Array) -> Array:
    return reference_power - 10 * exponent * np.log10(np.linalg.norm(u, axis=-1) / reference_distance)


def _time_difference(u: Array, propagation_speed: Array) -> Array:
    size = u.shape[-1] // 2
    return (
        np.linalg.norm(u[..., :size], axis=-1) - np.linalg.norm(u[..., size:], axis=-1)
    ) / propagation_speed


def _staircase(u: Array, width: Array, height: Array) -> Array:
    return height * np.floor(u[..., 0] / width)


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "projection": lambda u: u[..., 0],
    "elevation": lambda u: np.arctan2(u[..., 2], np.hypot(u[..., 0], u[..., 1])),
    "range_rate": _range_rate,
    "signal_strength": _signal_strength,
    "time_difference": _time_difference,
    "sine": lambda u, frequency: np.sin(frequency * u[..., 0]),
    "double_sine": lambda u, frequency: np.sin(frequency * u[..., 0]) * np.sin(frequency * u[..., 1]),
    "square": lambda u: u[..., 0] ** 2,
    "staircase": _staircase,
    "root": lambda u: np.sqrt(u[..., 0]),
    "logarithm": lambda u: np.log(u[..., 0]),
    "mixed_length": lambda u, units: np.sqrt(((units * u) ** 2).sum(-1)),
}
"""By name, of the coordinates relative to the origin ``(..., rows)`` and the parameters."""


@dataclass(frozen=True)
class Seen:
    """All reports of one sensor: its predictions are computed once.

    Attributes:
        sensor: of `inference.readings`; its numbers are read.
        values: ``(n, m)``, as reported.
        covariances: ``(n, m, m)``, of each report.
        axes: the coordinates that points have.
    """

    sensor: Any
    values: Array
    covariances: Array
    axes: list[int]

    @property
    def is_angle(self) -> bool:
        sensor = self.sensor
        return sensor.kind == ANGLE or (sensor.kind == FUNCTION and sensor.program.measurement.angle)

    def predictions(self, points: Array) -> Array:
        """``h`` at `points` ``(..., d)``; returns ``(..., m)``, not a number where the function is not."""
        sensor = self.sensor
        u = points @ sensor.matrix[:, self.axes].T
        if sensor.kind == LINEAR:
            return u
        u = u - sensor.origin
        with np.errstate(all="ignore"):
            if sensor.kind == RANGE:
                found = np.sqrt((u * u).sum(-1))
            elif sensor.kind == ANGLE:
                found = np.arctan2(u[..., 1], u[..., 0])
                if sensor.heading is not None:
                    found = found - points @ sensor.heading[self.axes]
            else:
                found = _called(sensor.program, sensor.parameters, u)
        return np.where(np.isfinite(found), found, np.nan)[..., None]

    def log_likelihood(self, predictions: Array, spread: Array | None = None) -> Array:
        """Of all reports together where ``h`` is `predictions` ``(P, m)``, widened by `spread` ``(P, m)``; ``(P,)``."""
        extra = np.zeros_like(predictions) if spread is None else spread * abs(self.sensor.scale)
        found = self._of_rows if self.sensor.kind == LINEAR else self._of_scalar
        return sum(found(predictions, extra, i) for i in range(len(self.values)))  # type: ignore[return-value]

    def _of_rows(self, predictions: Array, extra: Array, index: int) -> Array:
        sensor = self.sensor
        factor = np.linalg.cholesky(self.covariances[index])
        inverse = np.linalg.inv(factor)
        offset = (self.values[index] - sensor.scale * predictions - sensor.bias) @ inverse.T
        wider = (extra**2) @ (inverse**2).T
        constant = np.log(np.diag(factor)).sum() + 0.5 * len(factor) * LOG_TWO_PI

        def density(ratio: float) -> Array:
            variance = ratio**2 + wider
            inside: Array = -0.5 * (offset**2 / variance + np.log(variance)).sum(-1) - constant
            return inside

        probability = sensor.outlier_probability
        if probability == 0:
            return density(1.0)
        return np.logaddexp(math.log1p(-probability) + density(1.0), math.log(probability) + density(10.0))

    def _of_scalar(self, predictions: Array, extra: Array, index: int) -> Array:
        sensor, value = self.sensor, float(self.values[index, 0])
        expected, extra = sensor.scale * predictions[:, 0] + sensor.bias, extra[:, 0]
        residual = value - expected
        deviation = math.sqrt(self.covariances[index, 0, 0]) * np.ones_like(residual)
        noise = sensor.noise
        parts, clutter, outlier = ((1.0, 0.0, 1.0),), 0.0, 0.0
        if noise is not None:
            parts = tuple(zip(noise.weights, noise.biases, noise.ratios, strict=True))
            deviation = deviation + noise.slope * np.abs(sensor.scale * predictions[:, 0])
            clutter = sum(share for share, _ in noise.clutter)
            outlier = sum(share * _clutter(law, value) for share, law in noise.clutter)
        if sensor.outlier_probability:
            outlier += sensor.outlier_probability / (sensor.outlier_span * abs(sensor.scale))
        inlier = np.full(len(residual), -math.inf)
        total = sum(weight for weight, _, _ in parts)
        for weight, bias, ratio in parts:
            offset = residual - bias
            if self.is_angle:
                offset = wrapped(offset / sensor.scale) * sensor.scale
            variance = (ratio * deviation) ** 2 + extra**2
            log = math.log(weight / total) - 0.5 * (offset**2 / variance + np.log(variance) + LOG_TWO_PI)
            inlier = np.logaddexp(inlier, log) if len(parts) > 1 else log
        inlier = np.where(
            np.isnan(inlier), -math.inf, inlier + math.log1p(-sensor.outlier_probability - clutter)
        )
        return np.logaddexp(inlier, math.log(outlier)) if outlier > 0 else inlier


def _clutter(law: Any, value: float) -> float:
    """Density of a uniform or exponential law at a value."""
    if hasattr(law, "low"):
        return 1 / (law.high - law.low) if law.low <= value <= law.high else 0.0
    return math.exp(-value / law.mean) / law.mean if value >= 0 else 0.0


def _called(program: Any, parameters: Array, u: Array) -> Array:
    named, start = {}, 0
    for name, shape in program.layout:
        size = int(np.prod(shape))
        named[name] = parameters[start : start + size].reshape(shape)
        start += size
    found = FUNCTIONS[program.measurement.name](u, **named)
    return found if program.output is None else found[..., program.output]


def touched(readings: Sequence[Any], dimension: int) -> list[int]:
    """The coordinates that any of the readings says something of."""
    used = np.zeros(dimension, dtype=bool)
    for reading in readings:
        used |= (reading.sensor.matrix != 0).any(0)
        if reading.sensor.heading is not None:
            used |= reading.sensor.heading != 0
    return np.flatnonzero(used).tolist()


def seen(readings: Sequence[Any], axes: list[int]) -> list[Seen]:
    """The readings of points over `axes`, those of one sensor together."""
    groups: dict[int, list[Any]] = {}
    for reading in readings:
        groups.setdefault(id(reading.sensor), []).append(reading)
    found = []
    for same in groups.values():
        sensor = same[0].sensor
        covariances = [sensor.covariance if r.covariance is None else r.covariance for r in same]
        found.append(Seen(sensor, np.array([r.value for r in same], float), np.array(covariances), axes))
    return found
