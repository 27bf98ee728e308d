"""Encodes reports of many sensors as one batch of observations.

A reported value is ``scale · h(state) + bias + noise``. Encoding removes the calibration, but densities remain those of
the reported value. All reports of a batch are encoded together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.measurement_functions import Functions
from beliefstream.inference.likelihood.native_terms import NO_PRODUCT
from beliefstream.inference.likelihood.noise import Array, NoiseMixture
from beliefstream.inference.likelihood.observations import LIKELIHOOD, LINEAR, Observations
from beliefstream.inference.likelihood.problem_functions import Likelihoods
from beliefstream.inference.sensors.readings import Reading, Sensor, expanded
from beliefstream.inference.sensors.sensor_table import SensorTable, own_covariances, sensor_table


def encode(readings: Sequence[Sequence[Reading]], dimension: int) -> Observations:
    """Encode the readings of each entity as one batch of observations, float64, with padding after the fewer ones.

    Args:
        readings: readings of each of ``B`` entities.
        dimension: number of coordinates of the state, ``D``.

    Raises:
        ValueError: a composite reading has a wrong length or a covariance that correlates its parts, a reading lacks
            the position that each reading of its sensor needs, or a report to a problem lies outside the domain of its
            data.
    """
    readings = [expanded(row) for row in readings]
    counts = [len(row) for row in readings]
    flat = [reading for row in readings for reading in row]
    where = _Places.of(counts)
    observations = _observations(*tabulated(flat, dimension), where)
    likelihoods = _likelihoods(flat, where)
    return observations if likelihoods is None else replace(observations, likelihoods=likelihoods)


class Tabulated(NamedTuple):
    """The sensors of several readings, with the sensor's row ``(n,)`` and the value ``(n, R)`` of each."""

    table: SensorTable
    rows: NDArray[np.int64]
    values: Array


def tabulated(flat: Sequence[Reading], dimension: int) -> Tabulated:
    """The readings, none of them composite, as rows of a table; raises ValueError as `encode` does."""
    if any(reading.covariance is not None for reading in flat):
        index = np.arange(len(flat))
        table = sensor_table([reading.sensor for reading in flat], _covariances(flat, dimension), dimension)
    else:
        table, index = indexed([reading.sensor for reading in flat], dimension)
    values = _values(
        [reading.value for reading in flat],
        table.numbers.kind[index] != LIKELIHOOD,
        table.numbers.matrix.shape[1],
    )
    return Tabulated(table, index, values)


def _values(values: Sequence[Array], wanted: NDArray[np.bool_], width: int) -> Array:
    """The wanted ones of `values` as rows ``(n, width)``; with zeros after the shorter ones, and for the others."""
    padded = np.zeros((len(values), width))
    lengths = np.fromiter(map(len, values), np.int64, len(values)) * wanted
    for length in set(lengths.tolist()) - {0}:
        rows = np.flatnonzero(lengths == length)
        several = [values[row] for row in rows.tolist()]
        padded[rows, :length] = np.concatenate(several).reshape(-1, length)
    return padded


def indexed(sensors: Sequence[Sensor], dimension: int) -> tuple[SensorTable, NDArray[np.int64]]:
    """The table of different ones among `sensors`, and the row of each ``(n,)``."""
    # in one order, so that the same sensors find the table of an earlier batch
    numbers = list(map(id, sensors))
    different = dict(zip(numbers, sensors, strict=True))
    order = {number: row for row, number in enumerate(sorted(different))}
    table = sensor_table([different[number] for number in order], None, dimension)
    return table, np.fromiter(map(order.__getitem__, numbers), np.int64, len(numbers))


def _covariances(flat: Sequence[Reading], dimension: int) -> Array:
    """The covariance of each reading: its own, or its sensor's."""
    covariances = own_covariances([reading.sensor for reading in flat], dimension)
    for covariance, reading in zip(covariances, flat, strict=True):
        if reading.covariance is not None:
            covariance[: len(reading.value), : len(reading.value)] = reading.covariance
    return covariances


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
            own = reading.sensor.numbers(reading.value)
            numbers[i, : len(own)] = own
    return Likelihoods(tuple(functions), where.put(which, -1), where.put(numbers, 0.0))


@dataclass(frozen=True)
class _Places:
    """Indices of each report in the batch: entity, and place among its observations."""

    entity: NDArray[np.int64]
    place: NDArray[np.int64]
    shape: tuple[int, int]

    @classmethod
    def of(cls, counts: Sequence[int]) -> _Places:
        """The places of entities with so many reports each, in order."""
        number = np.array(counts, dtype=np.int64)
        entity = np.repeat(np.arange(len(counts)), number)
        first = np.cumsum(number) - number
        shape = len(counts), max([1, *counts])
        return cls(entity, np.arange(len(entity)) - first[entity], shape)

    @property
    def all_used(self) -> bool:
        """Whether no place of the batch is empty."""
        return len(self.entity) == self.shape[0] * self.shape[1]

    def put(self, source: NDArray[Any], filler: float) -> torch.Tensor:
        """Scatter one row per report into ``(B, N, ...)``."""
        shape = (*self.shape, *source.shape[1:])
        if self.all_used:
            return torch.from_numpy(source.reshape(shape))
        target = np.full(shape, filler, source.dtype)
        target[self.entity, self.place] = source
        return torch.from_numpy(target)


def _observations(
    table: SensorTable, index: NDArray[np.int64], reported: Array, where: _Places
) -> Observations:
    """Arrange all reports by entity."""
    probability, log_density = table.outliers(index, reported[:, 0])
    numbers = table.numbers
    return Observations(
        kind=where.put(numbers.kind[index], LINEAR),
        mask=where.put(np.ones(len(index), dtype=np.bool_), 0),
        value=where.put(table.whitened(index, reported), 0.0),
        matrix=where.put(numbers.matrix[index], 0.0),
        origin=where.put(numbers.origin[index], 0.0),
        heading=where.put(numbers.heading[index], 0.0),
        standard_deviation=where.put(numbers.deviation[index], 1.0),
        rows=where.put(numbers.rows[index], 1.0),
        log_scale=where.put(numbers.log_scale[index], 0.0),
        outlier_probability=where.put(probability, 0.0),
        outlier_log_density=where.put(log_density, 0.0),
        mixture=_mixture(numbers.noise[index], where) if numbers.noise.size else None,
        deviation_slope=where.put(numbers.slope[index], 0.0) if numbers.slope.any() else None,
        functions=_functions(table, index, where),
        hidden=where.put(numbers.hidden[index], 0) if numbers.hidden.any() else None,
        product=where.put(numbers.product[index], 0.0) if (numbers.product != NO_PRODUCT).any() else None,
    )


def _mixture(noise: Array, where: _Places) -> NoiseMixture:
    """The components ``(n, C, 3)`` of each report's noise."""
    placed = where.put(noise[..., 0], -math.inf)
    placed[..., 0] = torch.where(placed.isneginf().all(-1), 0.0, placed[..., 0])
    return NoiseMixture(placed, where.put(noise[..., 1], 0.0), where.put(noise[..., 2], 1.0))


def _functions(table: SensorTable, index: NDArray[np.int64], where: _Places) -> Functions | None:
    programs = list(dict.fromkeys(s.program for s in table.sensors if s.program is not None))
    if not programs:
        return None
    numbers = {program: number for number, program in enumerate(programs)}
    which = np.array([numbers[s.program] if s.program else -1 for s in table.sensors])
    parameters = where.put(table.numbers.parameters[index], 0.0)
    return Functions(tuple(programs), where.put(which[index], -1), parameters)
