"""Numbers of several sensors, stacked and whitened once, for any number of their readings."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Product
from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.sensors.readings import Sensor

KEPT_SENSORS = 64  # most sensors of a table that is kept for the next batch
KEPT_TABLES = 256
# standard deviations; span of outliers with probability 0, which bounds the likelihood from below
_NO_OUTLIERS = 1e3
_LEAST_LOG_DENSITY = -1e4  # of a value that the clutter cannot produce; finite in all float types


class Numbers(NamedTuple):
    """The numbers of ``S`` sensors, padded to ``R`` rows, without clutter; native functions take them as they are."""

    kind: NDArray[np.int64]
    matrix: Array  # (S, R, D); whitened if linear
    origin: Array  # (S, R); zero of a linear one
    heading: Array  # (S, D)
    whitening: Array  # (S, R, R): inverse factors of linear ones, otherwise the identity
    inside: Array  # (S, R): 1 in rows of a value, otherwise 0
    deviation: Array  # (S,), 1 of a linear one
    rows: Array  # degrees of freedom
    constant: Array  # log normaliser
    log_inlier: Array  # log probability of an inlier
    log_outlier: Array
    outlier: Array  # log density; without clutter, which depends on the value
    scale: Array
    bias: Array
    probability: Array  # of an outlier
    log_scale: Array
    slope: Array  # of the deviation
    noise: Array  # (S, C, 3) components of noise mixtures, as in `native_terms.Seen`
    wraps: NDArray[np.bool_]
    function: NDArray[np.int64]
    parameters: Array  # (S, Q)
    hidden: NDArray[np.int64]  # how many of the last coordinates are errors of sensors
    product: Array  # (S, 6), a `native_terms.Product` each


@dataclass(frozen=True, eq=False)
class SensorTable:
    """Several sensors and their numbers."""

    sensors: tuple[Sensor, ...]
    numbers: Numbers

    def whitened(self, index: NDArray[np.int64], reported: Array) -> Array:
        """Reported values ``(n, R)`` of the sensors at `index`, without calibration, and whitened."""
        numbers = self.numbers
        values = (reported - numbers.bias[index, None]) / numbers.scale[index, None] * numbers.inside[index]
        whitened: Array = np.matmul(numbers.whitening[index], values[:, :, None])[..., 0]
        return whitened

    def outliers(self, index: NDArray[np.int64], reported: Array) -> tuple[Array, Array]:
        """The outlier probability of each value, and its log density as an outlier; `reported` ``(n,)``."""
        probability, log_density = self.numbers.probability[index], self.numbers.outlier[index]
        for number, sensor in enumerate(self.sensors):
            if sensor.noise is None or not sensor.noise.clutter:
                continue
            selected = index == number
            density = sensor.outlier_probability * np.exp(log_density[selected])
            for share, law in sensor.noise.clutter:
                density = density + share * law.density(reported[selected])
            total = sensor.outlier_probability + sensor.noise.clutter_probability
            probability[selected] = total
            with np.errstate(divide="ignore"):
                log_density[selected] = np.maximum(np.log(density / total), _LEAST_LOG_DENSITY)
        return probability, log_density


def sensor_table(sensors: Sequence[Sensor], covariances: Array | None, dimension: int) -> SensorTable:
    """The table of `sensors`.

    Args:
        sensors: in the table's order.
        covariances: of the reported values, in place of the sensors' own, ``(S, R, R)``; None for their own.
        dimension: number of coordinates of the state.

    Raises:
        ValueError: a sensor lacks the position that each of its readings needs.
    """
    if covariances is None and len(sensors) <= KEPT_SENSORS:
        return _kept_table(tuple(sensors), None, dimension)
    return _table(tuple(sensors), covariances, dimension)


def most_rows(sensors: Sequence[Sensor], dimension: int) -> int:
    """The number of rows that a table of `sensors` has: those of the state, which is before hidden coordinates."""
    state = dimension - max((sensor.hidden for sensor in sensors), default=0)
    return max([state] + [len(sensor.matrix) for sensor in sensors])


def own_covariances(sensors: Sequence[Sensor], dimension: int) -> Array:
    """The sensors' covariances of reported values, ``(S, R, R)``, with the identity in unused rows."""
    rows = most_rows(sensors, dimension)
    covariances = np.tile(np.eye(rows), (len(sensors), 1, 1))
    for row, sensor in zip(covariances, sensors, strict=True):
        length = sensor.noise_length
        row[:length, :length] = sensor.covariance
    return covariances


def _table(sensors: tuple[Sensor, ...], covariances: Array | None, dimension: int) -> SensorTable:
    count, rows = len(sensors), most_rows(sensors, dimension)
    matrix, origin = np.zeros((count, rows, dimension)), np.zeros((count, rows))
    heading = np.zeros((count, dimension))
    for i, sensor in enumerate(sensors):
        if sensor.placement is not None and sensor.placement.position is None:
            raise ValueError("position: expected one with each reading of this sensor, got none")
        used = len(sensor.matrix)
        matrix[i, :used], origin[i, :used] = sensor.matrix, sensor.origin
        if sensor.heading is not None:
            heading[i] = sensor.heading
    kind = np.array([s.kind for s in sensors], dtype=np.int64)
    length, scale = _column(s.noise_length for s in sensors), _column(s.scale for s in sensors)
    inside = np.arange(rows) < length[:, None]
    size = np.where(inside, np.abs(scale)[:, None], 1.0)
    own = own_covariances(sensors, dimension) if covariances is None else covariances
    factors = np.linalg.cholesky(own / (size[:, :, None] * size[:, None, :]))
    is_linear = kind == LINEAR
    whitening = np.where(is_linear[:, None, None], np.linalg.inv(factors), np.eye(rows))
    # densities are those of the reported value, so they include the scale
    log_scale = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1) + length * np.log(np.abs(scale))
    freedom, probability = _column(map(_freedom, sensors)), _column(s.outlier_probability for s in sensors)
    with np.errstate(divide="ignore"):
        log_outlier = np.log(probability)
    codes, parameters = _functions(sensors)
    product = np.array([s.product for s in sensors])
    in_unit = [
        Product._fields.index(name) for name in ("reference", "shift")
    ]  # of h, which is whitened if linear
    product[:, in_unit] *= np.where(is_linear, whitening[:, 0, 0], 1.0)[:, None]
    numbers = Numbers(
        kind=kind,
        matrix=np.where(is_linear[:, None, None], whitening @ matrix, matrix),
        origin=np.where(is_linear[:, None], 0.0, origin),
        heading=heading,
        whitening=whitening,
        inside=inside.astype(float),
        deviation=np.where(is_linear, 1.0, factors[:, 0, 0]),
        rows=freedom,
        constant=log_scale + 0.5 * freedom * LOG_TWO_PI,
        log_inlier=np.log1p(-probability),
        log_outlier=log_outlier,
        outlier=-np.log(_column(s.outlier_span or _wide(s) for s in sensors) * np.abs(scale)),
        scale=scale,
        bias=_column(s.bias for s in sensors),
        probability=probability,
        log_scale=log_scale,
        slope=_column(s.noise.slope if s.noise is not None else 0.0 for s in sensors),
        noise=_noise_components(sensors),
        wraps=np.array([s.wraps for s in sensors], bool),
        function=codes,
        parameters=parameters,
        hidden=np.array([s.hidden for s in sensors], np.int64),
        product=product,
    )
    return SensorTable(sensors, Numbers._make(map(np.ascontiguousarray, numbers)))


_kept_table = functools.lru_cache(KEPT_TABLES)(_table)


def _noise_components(sensors: Sequence[Sensor]) -> Array:
    """Log weights, biases and ratios ``(S, C, 3)`` of the sensors' noise; C is 0 if all of it is one Gaussian."""
    most = max([len(s.noise.weights) for s in sensors if s.noise and s.noise.is_mixture], default=0)
    table = np.zeros((len(sensors), most, 3))
    if not most:
        return table
    table[:, 0, 0], table[:, :, 2] = 1.0, 1.0
    for row, sensor in zip(table, sensors, strict=True):
        if sensor.noise is not None:
            count = len(sensor.noise.weights)
            row[:count, 0] = np.array(sensor.noise.weights) / sum(sensor.noise.weights)
            row[:count, 1] = np.array(sensor.noise.biases) / sensor.scale
            row[:count, 2] = sensor.noise.ratios
    with np.errstate(divide="ignore"):
        table[..., 0] = np.log(table[..., 0])
    return table


def _functions(sensors: Sequence[Sensor]) -> tuple[NDArray[np.int64], Array]:
    """Code of each sensor's function ``(S,)``, and its parameters ``(S, Q)``, as compiled code takes them."""
    programs = [sensor.program for sensor in sensors]
    codes = np.array([0 if program is None else program.code for program in programs], np.int64)
    rows = [
        np.zeros(1) if program is None else program.packed(sensor.parameters)
        for program, sensor in zip(programs, sensors, strict=True)
    ]
    parameters = np.zeros((len(rows), max(map(len, rows), default=1)))
    for into, row in zip(parameters, rows, strict=True):
        into[: len(row)] = row
    return codes, parameters


def _column(values: Iterable[float]) -> Array:
    return np.fromiter(values, float)


def _freedom(sensor: Sensor) -> float:
    """Degrees of freedom of a report: its values with noise, or the fewer of a problem's parameters and data."""
    if sensor.problem is None:
        return float(sensor.noise_length)
    return float(min(len(sensor.problem.parameters), sensor.problem.data_length))


def _wide(sensor: Sensor) -> float:
    return _NO_OUTLIERS * math.sqrt(sensor.covariance[0, 0]) / abs(sensor.scale)
