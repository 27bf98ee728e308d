"""Sensors and their readings, before they are encoded as a batch of observations."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import msgspec
import numpy as np

from beliefstream.inference.likelihood.measurement_functions import Program
from beliefstream.inference.likelihood.native_functions import TABULATED
from beliefstream.inference.likelihood.native_terms import NO_PRODUCT, Product
from beliefstream.inference.likelihood.noise import Array, Noise
from beliefstream.inference.likelihood.observations import ANGLE, LIKELIHOOD, LINEAR
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ONE, padded
from beliefstream.inference.sensors.persistent import MOST_GAIN, Gain, OfRow, PersistentError
from beliefstream.inference.sensors.placement import Placement

COMPOSITE = -1  # kind of a sensor that reports several numbers, each with its own model


class Calibration(TypedDict, total=False):
    """Arguments that all sensors of `inference.sensors` take, and pass on to `Sensor`."""

    scale: float
    bias: float
    noise: Noise | None


@dataclass(frozen=True, eq=False)
class Sensor:
    """Measurement model of a sensor over ``D`` coordinates; the functions of `inference.sensors` make it.

    The measurement is a function of ``matrix x − origin``.

    Attributes:
        kind: LINEAR, RANGE, ANGLE, FUNCTION or LIKELIHOOD of `inference.likelihood.observations`, or COMPOSITE.
        matrix: rows that the sensor observes, ``(rows, D)``.
        origin: subtracted from the rows, ``(rows,)``.
        covariance: covariance of the noise of the reported value, ``(m, m)``.
        outlier_probability: probability that a value is an outlier, without clutter.
        outlier_span: width of the uniform density of outliers in the unit of ``h``; None for an outlier with ten times
            the standard deviation.
        scale: calibration, reported units per unit of ``h``.
        bias: calibration, in the reported unit.
        noise: non-Gaussian noise of a scalar, relative to its standard deviation; None for Gaussian noise.
        heading: row subtracted from an angle, ``(D,)``; None for none.
        program: function of a sensor of kind FUNCTION.
        parameters: numbers of the function, ``(Q,)``; those of a problem are NaN where a report brings them.
        parts: sensors of a composite, in the order of its values.
        placement: how its position enters; None for a sensor without one. See `inference.sensors.placement`.
        problem: of a sensor of kind LIKELIHOOD; noise, outliers and calibration do not apply.
        reported: which of a problem's numbers each reported value is, in order.
        errors: of its numbers, that last; see `inference.sensors.persistent`.
        hidden: how many of the last coordinates are such errors, of this sensor and others.
        gain: of one of these, and its coordinate; None for none.
        product: what its linearised form (`inference.tracking.gains`) stands for.

    Raises:
        ValueError: a number is outside its range, the covariance has a wrong shape or is not positive definite, or an
            error is of no row, or of noise that is not Gaussian, or multiplies what it cannot.
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
    placement: Placement | None = None
    problem: ProblemFunction | None = None
    reported: tuple[int, ...] = ()
    errors: tuple[OfRow, ...] = ()
    hidden: int = 0
    gain: tuple[int, Gain] | None = None
    product: Product = NO_PRODUCT

    def __post_init__(self) -> None:
        clutter = self.noise.clutter_probability if self.noise is not None else 0.0
        if not 0 <= self.outlier_probability < 1 or not self.outlier_probability + clutter < 1:
            among = f" with clutter of {clutter}" if clutter else ""
            raise ValueError(f"outlier_probability: must be in [0, 1), got {self.outlier_probability}{among}")
        if self.scale == 0 or not math.isfinite(self.scale):
            raise ValueError(f"scale: must be finite and not zero, got {self.scale}")
        length = self.covariance.shape[0]
        if self.covariance.shape != (length, length) or length != self.noise_length:
            raise ValueError(
                f"covariance: expected {self.noise_length} rows, got shape {self.covariance.shape}"
            )
        try:
            np.linalg.cholesky(self.covariance)
        except np.linalg.LinAlgError:
            raise ValueError(f"covariance: not positive definite: {self.covariance.tolist()}") from None
        if self.errors:
            self._check_errors()

    def _check_errors(self) -> None:
        if self.noise is not None or self.kind in (LIKELIHOOD, COMPOSITE):
            what = "Gaussian noise" if self.noise is not None else "noise of its own"
            raise ValueError(f"persistent_deviation: expected a sensor with {what}")
        for row, error, gain in self.errors:
            error.check()
            if not 0 <= row < self.noise_length:
                raise ValueError(f"row: expected one of {self.noise_length} numbers, got {row}")
            if gain is not None and not error.deviation * gain.factor <= MOST_GAIN:
                raise ValueError(
                    f"deviation of {error.name}: must be at most {MOST_GAIN / gain.factor:g}, got {error.deviation:g}"
                )
        gains = [each.gain for each in self.errors if each.gain is not None]
        if gains and (self.wraps or self.noise_length > 1 or len(gains) > 1):
            raise ValueError("scale_deviation: expected a sensor of one number, no angle, with one scale")

    @functools.cached_property
    def content(self) -> tuple[Any, ...]:
        """Key that identifies the sensor, for an order that does not depend on the arrival of readings."""
        program, function = self.program, ""
        if program is not None:
            name = getattr(program.measurement, "__qualname__", type(program.measurement).__qualname__)
            function = f"{name} {program.layout} {program.output}"
        if self.problem is not None:
            weights = self.problem.learned.digest if self.problem.learned is not None else ""
            function = f"{self.problem.name} {self.reported} {weights}"
        heading = self.heading if self.heading is not None else np.zeros(0)
        return (
            self.kind,
            *(
                part.tobytes()
                for part in (self.matrix, self.origin, self.covariance, heading, self.parameters)
            ),
            (self.outlier_probability, self.outlier_span or 0.0, self.scale, self.bias),
            (repr(self.noise), function, self.errors),
            tuple(part.content for part in self.parts),
        )

    @property
    def dimension(self) -> int:
        return int(self.matrix.shape[1])

    @functools.cached_property
    def value_length(self) -> int:
        """Number of values in one report; in the longest one, if reports to a problem have rows."""
        if self.parts:
            return sum(part.value_length for part in self.parts)
        return len(self.reported) if self.kind == LIKELIHOOD else self.noise_length

    @property
    def noise_length(self) -> int:
        """Number of values in one report that have noise of their own; 1 for a problem, which has none."""
        if self.parts:
            return self.value_length
        return int(self.matrix.shape[0]) if self.kind == LINEAR else 1

    @property
    def wraps(self) -> bool:
        """Whether the value is an angle."""
        return self.kind == ANGLE or (self.program is not None and self.program.measurement.angle)

    @functools.cached_property
    def is_built_in(self) -> bool:
        """Whether compiled code can evaluate it: it has neither a function of the user nor a problem."""
        if self.parts:
            return all(part.is_built_in for part in self.parts)
        return self.problem is None and (self.program is None or self.program.code != TABULATED)

    @property
    def is_learned(self) -> bool:
        """Whether its likelihood was learned; False of a composite, whose parts may be."""
        return self.problem is not None and self.problem.is_learned

    @functools.cached_property
    def is_simple(self) -> bool:
        """Whether it is built in, and its outliers do not depend on the reported value."""
        clutter = self.noise is not None and bool(self.noise.clutter)
        return self.is_built_in and not clutter and all(part.is_simple for part in self.parts)

    @functools.cached_property
    def all_errors(self) -> tuple[PersistentError, ...]:
        """Its errors that last, and those of its parts."""
        own = tuple(each.error for each in self.errors)
        return own + tuple(error for part in self.parts for error in part.all_errors)

    @functools.cached_property
    def has_errors(self) -> bool:
        """Whether a part of its error lasts."""
        return bool(self.all_errors)

    @functools.cached_property
    def is_one_number(self) -> bool:
        """Whether a report is one number, of a sensor without parts."""
        return not self.parts and self.value_length == 1

    @functools.cached_property
    def channels(self) -> tuple[Sensor, ...]:
        """One sensor for each reported number, with the marginal of its noise."""
        if self.parts:
            return tuple(channel for part in self.parts for channel in part.channels)
        if self.value_length == 1:
            return (self,)
        return tuple(
            replace(
                self,
                matrix=self.matrix[row : row + 1],
                origin=self.origin[row : row + 1],
                covariance=self.covariance[row : row + 1, row : row + 1],
                errors=tuple(each._replace(row=0) for each in self.errors if each.row == row),
            )
            for row in range(self.value_length)
        )

    def split(self, value: Array, covariance: Array | None) -> tuple[Reading, ...]:
        """Split a reported value of a composite, ``(m,)``, and its covariance into readings of the parts.

        Raises:
            ValueError: the covariance correlates two parts.
        """
        stops = np.cumsum([part.value_length for part in self.parts]).tolist()
        blocks = [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
        if covariance is not None:
            across = np.array(covariance, float)
            for block in blocks:
                across[block, block] = 0
            if across.any():
                raise ValueError(
                    f"covariance: the parts of a composite are independent, got {covariance.tolist()}"
                )
        return tuple(
            Reading(part, value[block], None if covariance is None else covariance[block, block])
            for part, block in zip(self.parts, blocks, strict=True)
        )

    def filled(self, value: Array) -> Array:
        """A report `value` to a problem, filled up with NaN where a report may have more rows, ``(value_length,)``.

        Raises ValueError if the rows are not whole, or if there are none or too many.
        """
        if self.problem is None or self.problem.rows == ONE or len(value) == self.value_length:
            return value
        before = self.value_length - self.problem.data_length
        return np.array(padded(value.tolist(), self.problem.rows, before, len(self.problem.data)))

    def numbers(self, value: Array) -> Array:
        """Data and context of a report `value` to a problem, in the problem's order.

        Raises ValueError, with the name, if one of the data lies outside its domain, or if the rows are not whole.
        """
        assert self.problem is not None
        numbers = self.parameters.copy()
        numbers[list(self.reported)] = self.filled(value)
        self.problem.check_numbers(numbers.tolist())
        return numbers


class Reading(msgspec.Struct, frozen=True, eq=False):
    """A reported value ``(m,)`` of a sensor; its noise covariance ``(m, m)`` if reported, otherwise None."""

    sensor: Sensor
    value: Array
    covariance: Array | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """Key that identifies the reading."""
        covariance = b"" if self.covariance is None else self.covariance.tobytes()
        return (self.sensor.content, self.value.tobytes(), covariance)


@dataclass(frozen=True, eq=False)
class ControlReading:
    """Reported inputs of a motion, which hold from their time until the next report.

    Attributes:
        value: in the units of the inputs, ``(c,)``.
        covariance: covariance of its error, positive semidefinite, ``(c, c)``.
        inputs: indices of these inputs among the motion's; None for all, in order.
    """

    value: Array
    covariance: Array
    inputs: tuple[int, ...] | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """Key that identifies the report."""
        return (self.inputs or (), self.value.tobytes(), self.covariance.tobytes())


def held(before: ControlReading | None, report: ControlReading, count: int) -> ControlReading:
    """Return all `count` inputs after a report of some; the others keep their value, initially exactly zero.

    Errors of inputs that were reported together are correlated; others are independent.

    Raises:
        ValueError: the report names an input that the motion lacks, or has a wrong number of values.
    """
    chosen = list(range(count)) if report.inputs is None else list(report.inputs)
    if not count:
        raise ValueError("control: this motion takes no inputs")
    if len(chosen) != len(report.value) or len(set(chosen)) != len(chosen) or max(chosen) >= count:
        raise ValueError(
            f"control: {len(report.value)} values for inputs {chosen} of a motion with {count} inputs"
        )
    value = np.zeros(count) if before is None else before.value.copy()
    covariance = np.zeros((count, count)) if before is None else before.covariance.copy()
    value[chosen] = report.value
    covariance[chosen, :] = covariance[:, chosen] = 0.0
    covariance[np.ix_(chosen, chosen)] = report.covariance
    return ControlReading(value, covariance)


def together(reports: Sequence[ControlReading]) -> ControlReading:
    """Merge the reports of one time in a fixed order; if an input is reported twice, the last value counts."""
    if len(reports) == 1:
        return reports[0]
    ordered = sorted(reports, key=lambda report: report.content)
    count = 1 + max(max(report.inputs or range(len(report.value))) for report in ordered)
    merged: ControlReading | None = None
    reported: set[int] = set()
    for report in ordered:
        chosen = tuple(range(len(report.value))) if report.inputs is None else report.inputs
        merged = held(merged, ControlReading(report.value, report.covariance, chosen), count)
        reported.update(chosen)
    assert merged is not None
    inputs = tuple(sorted(reported))
    index = list(inputs)
    return ControlReading(merged.value[index], merged.covariance[np.ix_(index, index)], inputs)


def expand(reading: Reading) -> tuple[Reading, ...]:
    """Split a composite reading into readings of its parts; other readings are returned unchanged.

    Raises:
        ValueError: the value has a wrong length, or the reported covariance correlates two parts.
    """
    sensor = reading.sensor
    if not sensor.parts:
        return (reading,)
    if len(reading.value) != sensor.value_length:
        raise ValueError(f"value: expected {sensor.value_length} numbers, got {len(reading.value)}")
    parts = sensor.split(reading.value, reading.covariance)
    return tuple(scalar for part in parts for scalar in expand(part))


def expanded(readings: Sequence[Reading]) -> Sequence[Reading]:
    """Return all readings, with composite ones split into their parts."""
    if not any(reading.sensor.parts for reading in readings):
        return readings
    return [part for reading in readings for part in expand(reading)]
