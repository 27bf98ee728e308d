"""Sensors of satellite navigation: pseudorange and pseudorange rate."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Name, NonNegative, Positive, distinct
from beliefstream.schemas.sensors.base import ScalarSensor
from beliefstream.schemas.sensors.coordinates import Geodetic
from beliefstream.schemas.sensors.directions import Triple


class SatelliteSensor(ScalarSensor):
    """A receiver of satellites; every observation states where its satellite was.

    The variance is standard_deviation² + (elevation_deviation / sin(elevation))² + signal_deviation² 10^(-C/N0 / 10),
    with the elevation above the horizon of the origin. A satellite below it makes a dead letter.
    """

    origin: Geodetic
    """place at which the coordinates are 0"""
    coordinates: Triple = ("x", "y", "z")
    """names of the state coordinates in metres east, north and up of the origin"""
    elevation_deviation: NonNegative = 0.0
    """part of the standard deviation that grows as the satellite sinks, at the zenith, in the reported unit"""
    signal_deviation: NonNegative = 0.0
    """part of the standard deviation that falls with the signal's strength, at a C/N0 of 0 dB-Hz, in the reported unit;
    if it is not 0, the second number of a value is C/N0 in dB-Hz"""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not distinct(self.coordinate_names):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        if self.noise is not None and (self.noise.slope or self.noise.clutter):
            raise PydanticCustomError(
                "invalid_noise",
                "noise: expected components only; a pseudorange has neither slope nor clutter",
            )
        return self

    @property
    def value_length(self) -> int:
        """The report, and C/N0 if the noise depends on it."""
        return 2 if self.signal_deviation else 1


class PseudorangeSensor(SatelliteSensor):
    """Observes the distance from a satellite with the error of the receiver's clock.

    h(state) = |coordinates - satellite|, longer or shorter by the turn of the Earth while the signal travels, + clock.
    The report has no error of the satellite's clock and no delay of the atmosphere.
    """

    kind: Literal["pseudorange"] = "pseudorange"
    clock: Name = "clock"
    """name of the state coordinate of the receiver's clock error times the speed of light, in metres; sensors of other
    constellations may name another"""
    outlier_span: Positive = 1000.0
    """width of the uniform density of outliers, in metres"""
    maximum_clock: Positive = 3e6
    """largest difference of a report from the distance of the origin, in metres; one with more is a dead letter"""

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Position coordinates, then the clock."""
        return (*self.coordinates, self.clock)


class PseudorangeRateSensor(SatelliteSensor):
    """Observes how fast a pseudorange grows (Doppler): h(state) is the derivative of that of `pseudorange` in time.

    An observation also states the satellite's velocity.
    """

    kind: Literal["pseudorange_rate"] = "pseudorange_rate"
    velocities: Triple = ("vx", "vy", "vz")
    """names of the velocities, in the order of the coordinates, in metres per second"""
    drift: Name = "drift"
    """name of the state coordinate of the clock's drift, in metres per second"""
    outlier_span: Positive = 200.0
    """width of the uniform density of outliers, in metres per second"""

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Position coordinates, velocities, then the clock's drift."""
        return (*self.coordinates, *self.velocities, self.drift)
