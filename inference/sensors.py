"""Measurement models: what a sensor reports as a function of the state, and how well.

A sensor is plain numbers over a state of ``D`` coordinates (`Sensor`); a `SensorBank` turns many reports of many
sensors into one batch of `inference.observations.Observations` without a loop over reports. A reported value is
``scale · h(state) + bias + noise``; calibration is undone before anything else sees the value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from inference.observations import ANGLE, LINEAR, RANGE, Observations

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sensor:
    """One measurement model over ``D`` coordinates; made by `linear`, `position`, `range_to` or `bearing`.

    Attributes:
        kind: LINEAR, RANGE or ANGLE of `inference.observations`.
        matrix: ``(rows, D)``; origin: ``(rows,)``.
        covariance: of the noise on the reported value, ``(m, m)``.
        outlier_probability: chance that a value is an outlier.
        outlier_span: width of the uniform outlier in the units of ``h``; None for ten times the noise.
    """

    kind: int
    matrix: Array
    origin: Array
    covariance: Array
    outlier_probability: float = 0.0
    outlier_span: float | None = None
    scale: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.outlier_probability < 1:
            raise ValueError(f"outlier_probability: must be in [0, 1), got {self.outlier_probability}")
        if self.scale == 0 or not math.isfinite(self.scale):
            raise ValueError(f"scale: must be finite and not zero, got {self.scale}")
        length = self.covariance.shape[0]
        if self.covariance.shape != (length, length) or length != self.value_length:
            raise ValueError(
                f"covariance: expected {self.value_length} rows, got shape {self.covariance.shape}"
            )
        try:
            np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise ValueError(f"covariance: not positive definite: {self.covariance.tolist()}") from None

    @property
    def dimension(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def value_length(self) -> int:
        """Numbers in one reported value."""
        return int(self.matrix.shape[0]) if self.kind == LINEAR else 1


def linear(
    matrix: ArrayLike,
    covariance: ArrayLike,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
) -> Sensor:
    """``h(x) = matrix x``; `matrix` ``(m, D)``, `covariance` ``(m, m)``. Outliers are ten times as wide."""
    rows = np.atleast_2d(np.asarray(matrix, float))
    noise = np.atleast_2d(np.asarray(covariance, float))
    return Sensor(LINEAR, rows, np.zeros(len(rows)), noise, outlier_probability, None, scale, bias)


def _selection(axes: Sequence[int], dimension: int) -> Array:
    if any(not 0 <= axis < dimension for axis in axes):
        raise ValueError(f"axes: {list(axes)} are not all coordinates of a state of {dimension}")
    return np.eye(dimension)[list(axes)]


def position(
    axes: Sequence[int],
    dimension: int,
    covariance: ArrayLike,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
) -> Sensor:
    """Some coordinates of the state themselves."""
    return linear(_selection(axes, dimension), covariance, outlier_probability, scale, bias)


def range_to(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    maximum_range: float = 100.0,
    scale: float = 1.0,
    bias: float = 0.0,
) -> Sensor:
    """Distance from `origin`, in the units of the coordinates; outliers uniform on ``[0, maximum_range]``."""
    noise = np.array([[standard_deviation**2]])
    place = np.asarray(origin, float)
    if place.shape != (len(axes),):
        raise ValueError(f"origin: expected {len(axes)} numbers, got shape {place.shape}")
    matrix = _selection(axes, dimension)
    return Sensor(RANGE, matrix, place, noise, outlier_probability, maximum_range, scale, bias)


def bearing(
    axes: Sequence[int],
    dimension: int,
    origin: ArrayLike,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    scale: float = 1.0,
    bias: float = 0.0,
) -> Sensor:
    """Direction from `origin`, radians counter-clockwise from the first axis; outliers uniform on the circle."""
    if len(axes) != 2:
        raise ValueError(f"axes: a bearing needs 2, got {len(axes)}")
    noise = np.array([[standard_deviation**2]])
    place = np.asarray(origin, float)
    return Sensor(
        ANGLE, _selection(axes, dimension), place, noise, outlier_probability, 2 * math.pi, scale, bias
    )


@dataclass(frozen=True, eq=False)
class Reading:
    """One reported value ``(m,)``, with a noise covariance ``(m, m)`` of its own if it came with one."""

    sensor: Sensor
    value: Array
    covariance: Array | None = None


def encode(readings: Sequence[Sequence[Reading]], dimension: int, width: int | None = None) -> Observations:
    """A batch of observations in float64 from each entity's readings, over ``D`` coordinates.

    `width` is the number of places an entity, by default the most that one has.
    """
    batch = len(readings)
    places = width or max((len(row) for row in readings), default=1) or 1
    flat = [reading for row in readings for reading in row]
    most_rows = max([dimension] + [len(reading.sensor.matrix) for reading in flat])
    sensors = list({id(reading.sensor): reading.sensor for reading in flat}.values())
    number = {id(sensor): i for i, sensor in enumerate(sensors)}
    table = _SensorTable.of(sensors, dimension, most_rows)
    entity = np.array([i for i, row in enumerate(readings) for _ in row], dtype=np.int64)
    place = np.array([j for row in readings for j in range(len(row))], dtype=np.int64)
    index = np.array([number[id(reading.sensor)] for reading in flat], dtype=np.int64)
    values = np.zeros((len(flat), most_rows))
    for i, reading in enumerate(flat):
        values[i, : len(reading.value)] = reading.value
    covariances = table.covariance[index] if flat else np.zeros((0, most_rows, most_rows))
    for i, reading in enumerate(flat):
        if reading.covariance is not None:
            covariances[i, : len(reading.value), : len(reading.value)] = reading.covariance
    return table.observations(index, values, covariances, (entity, place), (batch, places))


@dataclass(frozen=True)
class _SensorTable:
    """Several sensors' numbers stacked, padded to ``R`` rows."""

    kind: NDArray[np.int64]
    matrix: Array  # (S, R, D)
    origin: Array  # (S, R)
    covariance: Array  # (S, R, R), identity in unused rows
    length: Array  # (S,)
    probability: Array
    span: Array
    scale: Array
    bias: Array

    @classmethod
    def of(cls, sensors: Sequence[Sensor], dimension: int, rows: int) -> _SensorTable:
        count = len(sensors)
        matrix, origin = np.zeros((count, rows, dimension)), np.zeros((count, rows))
        covariance = np.tile(np.eye(rows), (count, 1, 1))
        for i, sensor in enumerate(sensors):
            used, length = len(sensor.matrix), sensor.value_length
            matrix[i, :used], origin[i, :used] = sensor.matrix, sensor.origin
            covariance[i, :length, :length] = sensor.covariance
        return cls(
            np.array([s.kind for s in sensors], dtype=np.int64),
            matrix,
            origin,
            covariance,
            np.array([s.value_length for s in sensors], dtype=float),
            np.array([s.outlier_probability for s in sensors], dtype=float),
            np.array([s.outlier_span or 1.0 for s in sensors], dtype=float),
            np.array([s.scale for s in sensors], dtype=float),
            np.array([s.bias for s in sensors], dtype=float),
        )

    def observations(
        self,
        index: NDArray[np.int64],
        values: Array,
        covariances: Array,
        where: tuple[NDArray[np.int64], NDArray[np.int64]],
        shape: tuple[int, int],
    ) -> Observations:
        """Undo calibration, whiten the linear ones, and put every report in its entity's place."""
        rows, dimension = self.matrix.shape[1:]
        kind, scale = self.kind[index], self.scale[index][:, None]
        inside = np.arange(rows) < self.length[index][:, None]
        values = np.where(inside, (values - self.bias[index][:, None]) / scale, 0.0)
        size = np.where(inside, scale, 1.0)
        factors = np.linalg.cholesky(covariances / (size[:, :, None] * size[:, None, :]))
        linear_ = kind == LINEAR
        stacked = np.concatenate([self.matrix[index], values[:, :, None]], -1)
        whitened = np.linalg.solve(factors, stacked)
        matrix = np.where(linear_[:, None, None], whitened[..., :-1], self.matrix[index])
        values = np.where(linear_[:, None], whitened[..., -1], values)
        # densities are those of the value as reported, so the scale counts too
        log_scale = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        log_scale = log_scale + self.length[index] * np.log(np.abs(scale[:, 0]))
        span = self.span[index] * np.abs(scale[:, 0])

        def place(source: NDArray[np.generic], filler: float, dtype: torch.dtype) -> torch.Tensor:
            target = torch.full((*shape, *source.shape[1:]), filler, dtype=dtype)
            target[where[0], where[1]] = torch.as_tensor(source, dtype=dtype)
            return target

        double = torch.float64
        return Observations(
            kind=place(kind, LINEAR, torch.int64),
            mask=place(np.ones(len(index), dtype=np.bool_), 0, torch.bool),
            value=place(values, 0.0, double),
            matrix=place(matrix, 0.0, double),
            origin=place(np.where(linear_[:, None], 0.0, self.origin[index]), 0.0, double),
            heading=torch.zeros(*shape, dimension, dtype=double),
            standard_deviation=place(np.where(linear_, 1.0, factors[:, 0, 0]), 1.0, double),
            rows=place(self.length[index], 1.0, double),
            log_scale=place(log_scale, 0.0, double),
            outlier_probability=place(self.probability[index], 0.0, double),
            outlier_log_density=place(-np.log(span), 0.0, double),
        )
