"""Sensors and readings as plain numbers, before they are encoded as a batch of observations."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beliefstream.inference.likelihood.measurement_functions import Program
from beliefstream.inference.likelihood.noise import Array, Noise
from beliefstream.inference.likelihood.observations import LINEAR

COMPOSITE = -1  # kind of a sensor that reports several numbers, each with its own model


@dataclass(frozen=True, eq=False)
class Sensor:
    """One measurement model over ``D`` coordinates; made by the functions of `inference.sensors`.

    Attributes:
        kind: LINEAR, RANGE, ANGLE or FUNCTION of `inference.likelihood.observations`, or COMPOSITE.
        matrix: ``(rows, D)``; origin: ``(rows,)``.
        covariance: of the noise on the reported value, ``(m, m)``.
        outlier_probability: chance that a value is an outlier, without clutter.
        outlier_span: width of the uniform outlier in the units of ``h``; None for ten times the noise.
        noise: of a scalar, relative to its standard deviation; None for Gaussian.
        heading: ``(D,)``, subtracted from an angle; None for none.
        program: the function; parameters: its numbers ``(Q,)``.
        parts: of a composite, in the order of its values.
    """

    kind: int
    matrix: Array
    origin: Array
    covariance: Array
    outlier_probability: float = 0.0
    outlier_span: float | None = None
    scale: float = 1.0
    bias: float = 0.0
    noise: Noise | None = None
    heading: Array | None = None
    program: Program | None = None
    parameters: Array = field(default_factory=lambda: np.zeros(0))
    parts: tuple[Sensor, ...] = ()

    def __post_init__(self) -> None:
        clutter = self.noise.clutter_probability if self.noise is not None else 0.0
        if not 0 <= self.outlier_probability < 1 or not self.outlier_probability + clutter < 1:
            among = f" beside clutter of {clutter}" if clutter else ""
            raise ValueError(f"outlier_probability: must be in [0, 1), got {self.outlier_probability}{among}")
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

    @functools.cached_property
    def content(self) -> tuple[Any, ...]:
        """A comparable key that identifies the sensor, for an order independent of arrival."""
        program, function = self.program, ""
        if program is not None:
            name = getattr(program.measurement, "__qualname__", type(program.measurement).__qualname__)
            function = f"{name} {program.layout} {program.output}"
        heading = self.heading if self.heading is not None else np.zeros(0)
        return (
            self.kind,
            *(
                part.tobytes()
                for part in (self.matrix, self.origin, self.covariance, heading, self.parameters)
            ),
            (self.outlier_probability, self.outlier_span or 0.0, self.scale, self.bias),
            (repr(self.noise), function),
            tuple(part.content for part in self.parts),
        )

    @property
    def dimension(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def value_length(self) -> int:
        """Number of values in one report."""
        if self.parts:
            return sum(part.value_length for part in self.parts)
        return int(self.matrix.shape[0]) if self.kind == LINEAR else 1


@dataclass(frozen=True, eq=False)
class Reading:
    """One reported value ``(m,)``, with its own noise covariance ``(m, m)`` if it was reported."""

    sensor: Sensor
    value: Array
    covariance: Array | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """A comparable key that identifies the reading."""
        covariance = b"" if self.covariance is None else self.covariance.tobytes()
        return (self.sensor.content, self.value.tobytes(), covariance)


@dataclass(frozen=True, eq=False)
class ControlReading:
    """Reported inputs of a motion, held from their time until the next report.

    value ``(c,)`` in the units of the inputs; covariance ``(c, c)`` of its error, positive semidefinite; the indices of
    these inputs among the motion's, in order, None for all.
    """

    value: Array
    covariance: Array
    inputs: tuple[int, ...] | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """A comparable key that identifies the report."""
        return (self.inputs or (), self.value.tobytes(), self.covariance.tobytes())


def held(before: ControlReading | None, report: ControlReading, count: int) -> ControlReading:
    """All `count` inputs after a report of some: the others stay the same, at first exactly zero.

    Errors of inputs that were reported together stay correlated; others are independent.

    Raises ValueError if the report names an input that the motion lacks, or has another number of values.
    """
    chosen = list(range(count)) if report.inputs is None else list(report.inputs)
    if not count:
        raise ValueError("control: this motion takes no inputs")
    if len(chosen) != len(report.value) or len(set(chosen)) != len(chosen) or max(chosen) >= count:
        raise ValueError(
            f"control: {len(report.value)} values for inputs {chosen} of a motion that takes {count}"
        )
    value = np.zeros(count) if before is None else before.value.copy()
    covariance = np.zeros((count, count)) if before is None else before.covariance.copy()
    value[chosen] = report.value
    covariance[chosen, :] = covariance[:, chosen] = 0.0
    covariance[np.ix_(chosen, chosen)] = report.covariance
    return ControlReading(value, covariance)


def together(reports: Sequence[ControlReading]) -> ControlReading:
    """Merge reports of one time in a fixed order; if an input is reported twice, the last one counts."""
    if len(reports) == 1:
        return reports[0]
    ordered = sorted(reports, key=lambda report: report.content)
    count = 1 + max(max(report.inputs or range(len(report.value))) for report in ordered)
    whole: ControlReading | None = None
    named: set[int] = set()
    for report in ordered:
        chosen = tuple(range(len(report.value))) if report.inputs is None else report.inputs
        whole = held(whole, ControlReading(report.value, report.covariance, chosen), count)
        named.update(chosen)
    assert whole is not None
    inputs = tuple(sorted(named))
    places = list(inputs)
    return ControlReading(whole.value[places], whole.covariance[np.ix_(places, places)], inputs)


def expand(reading: Reading) -> tuple[Reading, ...]:
    """Split a composite report into readings of its parts; any other reading is returned unchanged.

    Raises ValueError if the value has another length, or its own covariance correlates two parts.
    """
    sensor = reading.sensor
    if not sensor.parts:
        return (reading,)
    if len(reading.value) != sensor.value_length:
        raise ValueError(f"value: expected {sensor.value_length} numbers, got {len(reading.value)}")
    blocks = [slice(0, 0)]
    for part in sensor.parts:
        blocks.append(slice(blocks[-1].stop, blocks[-1].stop + part.value_length))
    blocks = blocks[1:]
    covariance = reading.covariance
    if covariance is not None:
        across = np.array(covariance, float)
        for block in blocks:
            across[block, block] = 0
        if across.any():
            raise ValueError(
                f"covariance: the parts of a composite are independent, got {covariance.tolist()}"
            )
    found: list[Reading] = []
    for part, block in zip(sensor.parts, blocks, strict=True):
        own = None if covariance is None else covariance[block, block]
        found.extend(expand(Reading(part, reading.value[block], own)))
    return tuple(found)


def expanded(readings: Sequence[Reading]) -> Sequence[Reading]:
    """All readings, with composite ones split into their parts."""
    if not any(reading.sensor.parts for reading in readings):
        return readings
    return [part for reading in readings for part in expand(reading)]
