"""Encodes reports of many sensors as one batch of observations.

A reported value is ``scale · h(state) + bias + noise``. Encoding removes the calibration, but densities remain those of
the reported value. All reports of a batch are encoded together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.batched_functions import Functions
from beliefstream.inference.likelihood.batched_likelihoods import Likelihoods
from beliefstream.inference.likelihood.noise import Array, NoiseMixture
from beliefstream.inference.likelihood.observations import LIKELIHOOD, LINEAR, Observations
from beliefstream.inference.sensors.readings import Reading, Sensor, expanded

_NO_OUTLIERS = (
    1e3  # standard deviations; span of outliers with probability 0, which bounds the likelihood from below
)
_LEAST_LOG_DENSITY = -1e4  # of a value that the clutter cannot produce; finite in all float types


def encode(readings: Sequence[Sequence[Reading]], dimension: int, width: int | None = None) -> Observations:
    """Encode the readings of each entity as one batch of observations, float64.

    Args:
        readings: readings of each of ``B`` entities.
        dimension: number of coordinates of the state, ``D``.
        width: number of observations per entity, ``N``, with padding; None for the largest number of readings.

    Raises:
        ValueError: a composite reading has a wrong length or a covariance that correlates its parts, a reading lacks
            the position that each reading of its sensor needs, or a report to a problem lies outside the domain of its
            data.
    """
    readings = [expanded(row) for row in readings]
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
        if reading.sensor.kind != LIKELIHOOD:
            values[i, : len(reading.value)] = reading.value
    covariances = table.covariance[index] if flat else np.zeros((0, most_rows, most_rows))
    for i, reading in enumerate(flat):
        if reading.covariance is not None:
            covariances[i, : len(reading.value), : len(reading.value)] = reading.covariance
    where = _Places(entity, place, (batch, places))
    observations = table.observations(index, values, covariances, where)
    return replace(observations, likelihoods=_likelihoods(flat, where))


def _likelihoods(flat: Sequence[Reading], where: _Places) -> Likelihoods | None:
    """The problems of all reports, with their data and context."""
    functions = list(dict.fromkeys(r.sensor.problem for r in flat if r.sensor.problem is not None))
    if not functions:
        return None
    number = {function: i for i, function in enumerate(functions)}
    which = np.full(len(flat), -1)
    numbers = np.zeros((len(flat), max(len(function.number_names) for function in functions)))
    for i, reading in enumerate(flat):
        if reading.sensor.problem is not None:
            which[i] = number[reading.sensor.problem]
            found = reading.sensor.numbers(reading.value)
            numbers[i, : len(found)] = found
    return Likelihoods(tuple(functions), where.put(which, -1, torch.int64), where.put(numbers, 0.0))


@dataclass(frozen=True)
class _Places:
    """Indices of each report in the batch: entity, and place among its observations."""

    entity: NDArray[np.int64]
    place: NDArray[np.int64]
    shape: tuple[int, int]

    def put(
        self, source: NDArray[np.generic], filler: float, dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """Scatter one row per report into ``(B, N, ...)``."""
        target = torch.full((*self.shape, *source.shape[1:]), filler, dtype=dtype)
        target[self.entity, self.place] = torch.as_tensor(source, dtype=dtype)
        return target


@dataclass(frozen=True)
class _SensorTable:
    """Stacked parameters of several sensors, padded to ``R`` rows."""

    sensors: Sequence[Sensor]
    kind: NDArray[np.int64]
    matrix: Array  # (S, R, D)
    origin: Array  # (S, R)
    heading: Array  # (S, D)
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
        heading, covariance = np.zeros((count, dimension)), np.tile(np.eye(rows), (count, 1, 1))
        for i, sensor in enumerate(sensors):
            if sensor.placement is not None and sensor.placement.position is None:
                raise ValueError("position: expected one with each reading of this sensor, got none")
            used, length = len(sensor.matrix), sensor.noise_length
            matrix[i, :used], origin[i, :used] = sensor.matrix, sensor.origin
            covariance[i, :length, :length] = sensor.covariance
            if sensor.heading is not None:
                heading[i] = sensor.heading
        return cls(
            sensors,
            np.array([s.kind for s in sensors], dtype=np.int64),
            matrix,
            origin,
            heading,
            covariance,
            np.array([s.noise_length for s in sensors], dtype=float),
            np.array([s.outlier_probability for s in sensors], dtype=float),
            np.array([s.outlier_span or _wide(s) for s in sensors], dtype=float),
            np.array([s.scale for s in sensors], dtype=float),
            np.array([s.bias for s in sensors], dtype=float),
        )

    def observations(
        self, index: NDArray[np.int64], reported: Array, covariances: Array, where: _Places
    ) -> Observations:
        """Remove the calibration, whiten linear reports, and arrange all reports by entity."""
        rows = self.matrix.shape[1]
        kind, scale = self.kind[index], self.scale[index][:, None]
        inside = np.arange(rows) < self.length[index][:, None]
        values = np.where(inside, (reported - self.bias[index][:, None]) / scale, 0.0)
        size = np.where(inside, np.abs(scale), 1.0)
        factors = np.linalg.cholesky(covariances / (size[:, :, None] * size[:, None, :]))
        linear_ = kind == LINEAR
        stacked = np.concatenate([self.matrix[index], values[:, :, None]], -1)
        whitened = np.linalg.solve(factors, stacked)
        matrix = np.where(linear_[:, None, None], whitened[..., :-1], self.matrix[index])
        values = np.where(linear_[:, None], whitened[..., -1], values)
        # densities are those of the reported value, so they include the scale
        log_scale = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        log_scale = log_scale + self.length[index] * np.log(np.abs(scale[:, 0]))
        freedom = np.array([_freedom(sensor) for sensor in self.sensors])[index]
        probability, log_density = self._outliers(index, reported[:, 0])
        return Observations(
            kind=where.put(kind, LINEAR, torch.int64),
            mask=where.put(np.ones(len(index), dtype=np.bool_), 0, torch.bool),
            value=where.put(values, 0.0),
            matrix=where.put(matrix, 0.0),
            origin=where.put(np.where(linear_[:, None], 0.0, self.origin[index]), 0.0),
            heading=where.put(self.heading[index], 0.0),
            standard_deviation=where.put(np.where(linear_, 1.0, factors[:, 0, 0]), 1.0),
            rows=where.put(freedom, 1.0),
            log_scale=where.put(log_scale, 0.0),
            outlier_probability=where.put(probability, 0.0),
            outlier_log_density=where.put(log_density, 0.0),
            mixture=self._mixture(index, where),
            deviation_slope=self._slope(index, where),
            functions=self._functions(index, where),
        )

    def _outliers(self, index: NDArray[np.int64], reported: Array) -> tuple[Array, Array]:
        """Return the outlier probability, and the log density of each value as an outlier."""
        probability = self.probability[index]
        log_density = -np.log(self.span[index] * np.abs(self.scale[index]))
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

    def _mixture(self, index: NDArray[np.int64], where: _Places) -> NoiseMixture | None:
        most = max([len(s.noise.weights) for s in self.sensors if s.noise and s.noise.is_mixture], default=0)
        if not most:
            return None
        table = np.zeros((len(self.sensors), 3, most))
        table[:, 0, 0], table[:, 2] = 1.0, 1.0
        for row, sensor in zip(table, self.sensors, strict=True):
            if sensor.noise is not None:
                count = len(sensor.noise.weights)
                row[0, :count] = np.array(sensor.noise.weights) / sum(sensor.noise.weights)
                row[1, :count] = np.array(sensor.noise.biases) / sensor.scale
                row[2, :count] = sensor.noise.ratios
        with np.errstate(divide="ignore"):
            table[:, 0] = np.log(table[:, 0])
        weights, bias, ratio = (table[index, part] for part in range(3))
        placed = where.put(weights, -math.inf)
        placed[..., 0] = torch.where(placed.isneginf().all(-1), 0.0, placed[..., 0])
        return NoiseMixture(placed, where.put(bias, 0.0), where.put(ratio, 1.0))

    def _slope(self, index: NDArray[np.int64], where: _Places) -> torch.Tensor | None:
        slopes = np.array([s.noise.slope if s.noise is not None else 0.0 for s in self.sensors])
        return where.put(slopes[index], 0.0) if slopes.any() else None

    def _functions(self, index: NDArray[np.int64], where: _Places) -> Functions | None:
        programs = list(dict.fromkeys(s.program for s in self.sensors if s.program is not None))
        if not programs:
            return None
        numbers = {program: number for number, program in enumerate(programs)}
        which = np.array([numbers[s.program] if s.program else -1 for s in self.sensors])
        parameters = np.zeros((len(self.sensors), max(len(s.parameters) for s in self.sensors)))
        for row, sensor in zip(parameters, self.sensors, strict=True):
            row[: len(sensor.parameters)] = sensor.parameters
        return Functions(
            tuple(programs), where.put(which[index], -1, torch.int64), where.put(parameters[index], 0.0)
        )


def _freedom(sensor: Sensor) -> float:
    """Degrees of freedom of a report: its values with noise, or the fewer of a problem's parameters and data."""
    if sensor.problem is None:
        return float(sensor.noise_length)
    return float(min(len(sensor.problem.parameters), len(sensor.problem.data)))


def _wide(sensor: Sensor) -> float:
    return _NO_OUTLIERS * math.sqrt(sensor.covariance[0, 0]) / abs(sensor.scale)
