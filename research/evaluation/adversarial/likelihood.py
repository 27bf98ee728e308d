"""Likelihoods of sensors in numpy, float64, written from the documentation of each kind.

They are part of the oracle, and use only the numbers of a sensor from the library. An outlier probability of zero is
exactly zero, and lengths are not smoothed. Every likelihood also has a *widened* form, in which the spread of the
prediction inside a cell is added to the noise. So a coarse cell finds a ridge narrower than itself.
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
    """Wrap angles to [−π, π]."""
    found: Array = angle - 2 * math.pi * np.rint(angle / (2 * math.pi))
    return found


def length(u: Array) -> Array:
    """Return the lengths ``(P,)`` of the vectors ``(rows, P)``."""
    found: Array = np.sqrt(np.einsum("ip,ip->p", u, u))
    return found


def _range_rate(u: Array) -> Array:
    place, velocity = np.split(u, 2)
    found: Array = np.einsum("ip,ip->p", place, velocity) / length(place)
    return found


def _signal_strength(u: Array, exponent: Array, reference_distance: Array, reference_power: Array) -> Array:
    found: Array = reference_power - 10 * exponent * np.log10(length(u) / reference_distance)
    return found


def _time_difference(u: Array, propagation_speed: Array) -> Array:
    first, second = np.split(u, 2)
    found: Array = (length(first) - length(second)) / propagation_speed
    return found


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "projection": lambda u: u[0],
    "elevation": lambda u: np.arctan2(u[2], np.hypot(u[0], u[1])),
    "range_rate": _range_rate,
    "signal_strength": _signal_strength,
    "time_difference": _time_difference,
    "sine": lambda u, frequency: np.sin(frequency * u[0]),
    "double_sine": lambda u, frequency: np.sin(frequency * u[0]) * np.sin(frequency * u[1]),
    "square": lambda u: u[0] ** 2,
    "staircase": lambda u, width, height: height * np.floor(u[0] / width),
    "root": lambda u: np.sqrt(u[0]),
    "logarithm": lambda u: np.log(u[0]),
    "slant": lambda u, height: np.sqrt(u[0] ** 2 + height**2),
    "mixed_length": lambda u, units: length(units[:, None] * u),
}
"""Measurement functions by name; arguments are the coordinates minus the origin ``(rows, P)``, and the parameters."""


@dataclass(frozen=True)
class Seen:
    """All reports of one sensor, whose predictions are computed once.

    Attributes:
        sensor: sensor of `inference.sensors.readings`, of which only the numbers are used.
        values: reported values, ``(n, m)``.
        covariances: covariance of each report, ``(n, m, m)``.
        axes: indices of the points' coordinates in the state.
    """

    sensor: Any
    values: Array
    covariances: Array
    axes: list[int]

    @property
    def is_angle(self) -> bool:
        """Whether its residuals are wrapped."""
        sensor = self.sensor
        return bool(sensor.kind == ANGLE or (sensor.kind == FUNCTION and sensor.program.measurement.angle))

    @property
    def noise_floor(self) -> Array:
        """Smallest standard deviation of each number in the units of ``h``, ``(m,)``."""
        found: Array = np.sqrt(np.diagonal(self.covariances[0])) / abs(self.sensor.scale)
        return found

    def predictions(self, points: Array) -> Array:
        """Return ``h`` at `points` ``(d, P)``, ``(m, P)``; NaN where the function is undefined."""
        sensor = self.sensor
        u = sensor.matrix[:, self.axes] @ points
        if sensor.kind == LINEAR:
            return u  # type: ignore[no-any-return]
        u = u - sensor.origin[:, None]
        with np.errstate(all="ignore"):
            if sensor.kind == RANGE:
                found = length(u)
            elif sensor.kind == ANGLE:
                found = np.arctan2(u[1], u[0])
                if sensor.heading is not None:
                    found = found - sensor.heading[self.axes] @ points
            else:
                found = _called(sensor.program, sensor.parameters, u)
                found = np.where(np.isfinite(found), found, np.nan)
        return np.asarray(found)[None]

    def log_likelihood(self, predictions: Array, spread: Array | None = None) -> Array:
        """Return the log likelihood ``(P,)`` of all reports at `predictions`, widened by `spread`, both ``(m, P)``."""
        extra = None if spread is None else spread * abs(self.sensor.scale)
        if extra is not None and len(self.values) > 1 and not self._is_plain:
            extra = extra * math.sqrt(
                len(self.values)
            )  # several reports are as precise as one with less noise
        return self._total(predictions, extra, None)

    def log_bound(self, predictions: Array, reach: Array) -> Array:
        """Return the largest log likelihood ``(P,)`` where predictions differ by at most `reach`, both ``(m, P)``.

        Each report may choose its own prediction, so it is a bound. It is the largest value if the deviation of the
        noise does not depend on the prediction, and if there is one report.
        """
        return self._total(predictions, None, reach * abs(self.sensor.scale))

    def _total(self, predictions: Array, extra: Array | None, reach: Array | None) -> Array:
        if self._is_plain:
            return self._of_mean(predictions, extra, reach)
        found = self._of_rows if self.sensor.kind == LINEAR else self._of_scalar
        total = found(predictions, extra, reach, 0)
        for index in range(1, len(self.values)):
            total = total + found(predictions, extra, reach, index)
        return total

    @property
    def _is_plain(self) -> bool:
        """Whether the mean of many reports is a sufficient statistic."""
        sensor, variances = self.sensor, self.covariances[:, 0, 0]
        plain = sensor.kind != LINEAR and not self.is_angle and sensor.noise is None
        return plain and sensor.outlier_probability == 0 and len(variances) > 1 and variances.std() == 0

    def _of_mean(self, predictions: Array, extra: Array | None, reach: Array | None) -> Array:
        values, count = self.values[:, 0], len(self.values)
        variance = float(self.covariances[0, 0, 0])
        within = float(((values - values.mean()) ** 2).sum()) / variance
        constant = -0.5 * (within + (count - 1) * (math.log(variance) + LOG_TWO_PI) + math.log(count))
        residual = values.mean() - (self.sensor.scale * predictions[0] + self.sensor.bias)
        residual = _nearest(residual, None if reach is None else reach[0])
        wider = variance / count + (0.0 if extra is None else extra[0] ** 2)
        found: Array = constant - 0.5 * (residual**2 / wider + np.log(wider) + LOG_TWO_PI)
        return np.where(np.isnan(found), -math.inf, found)

    def _of_rows(self, predictions: Array, extra: Array | None, reach: Array | None, index: int) -> Array:
        sensor = self.sensor
        factor = np.linalg.cholesky(self.covariances[index])
        inverse = np.linalg.inv(factor)
        offset = inverse @ ((self.values[index] - sensor.bias)[:, None] - sensor.scale * predictions)
        offset = _nearest(offset, None if reach is None else abs(inverse) @ reach)
        wider = None if extra is None else (inverse**2) @ (extra**2)
        constant = np.log(np.diag(factor)).sum() + 0.5 * len(factor) * LOG_TWO_PI

        def density(ratio: float) -> Array:
            if wider is None:
                inside: Array = (
                    -0.5 / ratio**2 * (offset**2).sum(0) - constant - len(factor) * math.log(ratio)
                )
                return inside
            variance = ratio**2 + wider
            widened: Array = -0.5 * (offset**2 / variance + np.log(variance)).sum(0) - constant
            return widened

        probability = sensor.outlier_probability
        if probability == 0:
            return density(1.0)
        return np.logaddexp(math.log1p(-probability) + density(1.0), math.log(probability) + density(10.0))

    def _of_scalar(self, predictions: Array, extra: Array | None, reach: Array | None, index: int) -> Array:
        sensor, noise, value = self.sensor, self.sensor.noise, float(self.values[index, 0])
        residual = value - (sensor.scale * predictions[0] + sensor.bias)
        deviation: Any = math.sqrt(self.covariances[index, 0, 0])
        parts: Sequence[tuple[float, float, float]] = ((1.0, 0.0, 1.0),)
        clutter, outlier = 0.0, 0.0
        if noise is not None:
            parts = list(zip(noise.weights, noise.biases, noise.ratios, strict=True))
            if noise.slope:
                deviation = deviation + noise.slope * np.abs(sensor.scale * predictions[0])
            clutter = sum(share for share, _ in noise.clutter)
            outlier = sum(share * _clutter(law, value) for share, law in noise.clutter)
        if sensor.outlier_probability:
            outlier += sensor.outlier_probability / (sensor.outlier_span * abs(sensor.scale))
        total, inlier = sum(weight for weight, _, _ in parts), None
        for weight, bias, ratio in parts:
            offset = residual - bias
            if self.is_angle:
                offset = wrapped(offset / sensor.scale) * sensor.scale
            offset = _nearest(offset, None if reach is None else reach[0])
            variance = (ratio * deviation) ** 2
            if extra is not None:
                variance = variance + extra[0] ** 2
            log = math.log(weight / total) - 0.5 * (offset**2 / variance + np.log(variance) + LOG_TWO_PI)
            inlier = log if inlier is None else np.logaddexp(inlier, log)
        assert inlier is not None
        inlier = inlier + math.log1p(-sensor.outlier_probability - clutter)
        if sensor.kind == FUNCTION:
            inlier = np.where(np.isnan(inlier), -math.inf, inlier)
        return np.logaddexp(inlier, math.log(outlier)) if outlier > 0 else inlier


def _nearest(offset: Array, reach: Array | None) -> Array:
    """Return the size of an offset that may be smaller by `reach`."""
    return offset if reach is None else np.maximum(np.abs(offset) - reach, 0.0)


def _clutter(law: Any, value: float) -> float:
    """Return the density of a uniform or exponential distribution at a value."""
    if hasattr(law, "low"):
        return 1 / (law.high - law.low) if law.low <= value <= law.high else 0.0
    return math.exp(-value / law.mean) / law.mean if value >= 0 else 0.0


def _called(program: Any, parameters: Array, u: Array) -> Array:
    named, start = {}, 0
    for name, shape in program.layout:
        size = int(np.prod(shape))
        named[name] = parameters[start : start + size].reshape(shape)
        start += size
    found: Array = FUNCTIONS[program.measurement.name](u, **named)
    return found if program.output is None else found[program.output]


def touched(readings: Sequence[Any], dimension: int) -> list[int]:
    """Return the indices of the coordinates that any reading depends on."""
    used = np.zeros(dimension, dtype=bool)
    for reading in readings:
        used |= (reading.sensor.matrix != 0).any(0)
        if reading.sensor.heading is not None:
            used |= reading.sensor.heading != 0
    return [int(axis) for axis in np.flatnonzero(used)]


def seen(readings: Sequence[Any], axes: list[int]) -> list[Seen]:
    """Group the readings by sensor, for points over `axes`."""
    groups: dict[int, list[Any]] = {}
    for reading in readings:
        groups.setdefault(id(reading.sensor), []).append(reading)
    found = []
    for same in groups.values():
        sensor = same[0].sensor
        covariances = [sensor.covariance if r.covariance is None else r.covariance for r in same]
        found.append(Seen(sensor, np.array([r.value for r in same], float), np.array(covariances), axes))
    return found
