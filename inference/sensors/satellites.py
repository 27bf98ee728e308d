"""Pseudoranges from satellites and their rates; every report states where its satellite was.

The state has its place in metres east, north and up of an origin o, and the clock of the receiver in metres: its error
times the speed of light c. Places of satellites are Earth-centred and Earth-fixed (ECEF), at the time of transmission,
and the report has no error of the satellite's clock and no delay of the atmosphere. While the signal travels, the Earth
turns with the rate ω. So with the receiver at P and the satellite at s, both ECEF,

    pseudorange = |P − s| + (ω / c) (s_x P_y − s_y P_x) + clock,

and its rate is the derivative in time (P. D. Groves, "Principles of GNSS, Inertial, and Multisensor Integrated
Navigation Systems", 2nd edition, 2013, section 8.5.3, to first order in ω). The terms of ω are linear in P and V. A
report is taken relative to the pseudorange of the origin, in double precision, so that the state meets small numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.sensors.functions import SPEED_OF_LIGHT, function
from beliefstream.inference.sensors.readings import Calibration, Reading, Sensor

TURN_OF_EARTH = 7.2921151467e-5  # radians per second, IS-GPS-200
_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) * TURN_OF_EARTH / SPEED_OF_LIGHT


@dataclass(frozen=True)
class LocalFrame:
    """East, north and up at a place on the Earth.

    Attributes:
        origin: ECEF, ``(3,)``, in metres.
        axes: unit vectors east, north and up, ECEF, ``(3, 3)``, one a row.
    """

    origin: Array
    axes: Array


@dataclass(frozen=True)
class SatelliteNoise:
    """What adds to the variance of a report: ``(by_elevation / sin(elevation))² + by_strength² 10^(−C/N₀ / 10)``.

    Attributes:
        by_elevation: in the reported unit.
        by_strength: standard deviation at a C/N₀ of 0 dB-Hz, in the reported unit; 0 for reports without it.
    """

    by_elevation: float = 0.0
    by_strength: float = 0.0


@dataclass(frozen=True, eq=False)
class SatelliteSensor(Sensor):
    """A pseudorange, or its rate; `reading` makes the sensor of one report.

    Attributes:
        frame: of the state's place.
        has_rate: whether it reports the rate, so that a report states the satellite's velocity too.
        growth: of the noise.
        maximum_clock: largest difference of a report from the pseudorange of the origin, in metres.
    """

    frame: LocalFrame = field(default_factory=lambda: LocalFrame(np.zeros(3), np.eye(3)))
    has_rate: bool = False
    growth: SatelliteNoise = SatelliteNoise()
    maximum_clock: float = math.inf

    @property
    def reported_length(self) -> int:
        """Number of reported numbers: with C/N₀ if the noise depends on it."""
        return 2 if self.growth.by_strength else 1

    def reading(
        self, value: float, position: ArrayLike, velocity: ArrayLike | None = None, strength: float = math.inf
    ) -> Reading:
        """Return the reading of a report.

        Args:
            value: in the reported unit.
            position: of the satellite, ECEF, ``(3,)``, in metres.
            velocity: of the satellite, ECEF, ``(3,)``, in m/s; of a rate.
            strength: carrier-to-noise density ratio C/N₀ in dB-Hz.

        Raises:
            ValueError: the satellite is below the horizon of the origin.
        """
        place, origin = np.asarray(position, float), self.frame.origin
        away = self.frame.axes @ (place - origin)
        distance = math.hypot(*away)
        sine = float(away[2]) / distance
        if not sine > 0:
            raise ValueError(
                f"position: the satellite is {math.degrees(-math.asin(sine)):.2g}° below the horizon of the origin, "
                f"got {place.tolist()}; expected ECEF, in metres"
            )
        turn = _TURN @ place
        if self.has_rate:
            moving = np.asarray(velocity, float)
            sensor, expected = self._rate(away, moving, turn), float(_TURN @ moving @ origin)
        else:
            sensor, expected = self._range(away, turn), distance + float(turn @ origin)
        growth = self.growth
        variance = (growth.by_elevation / sine) ** 2 + growth.by_strength**2 * 10 ** (-strength / 10)
        covariance = self.covariance + variance if variance else None
        return Reading(sensor, np.array([value - self.scale * expected]), covariance)

    def _range(self, away: Array, turn: Array) -> Sensor:
        """The sensor of a satellite that is `away` from the origin; the Earth's turn is linear in the place."""
        matrix = self.matrix.copy()
        matrix[3] += self.frame.axes @ turn @ self.matrix[:3]
        return replace(self, matrix=matrix, parameters=away)

    def _rate(self, away: Array, moving: Array, turn: Array) -> Sensor:
        axes, matrix = self.frame.axes, self.matrix.copy()
        matrix[6] += axes @ (_TURN @ moving) @ self.matrix[:3] + axes @ turn @ self.matrix[3:6]
        return replace(self, matrix=matrix, origin=np.concatenate([away, axes @ moving, [0.0]]))


def pseudorange(
    axes: Sequence[int],
    clock: int,
    dimension: int,
    frame: LocalFrame,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    outlier_span: float = 1000.0,
    growth: SatelliteNoise = SatelliteNoise(),
    maximum_clock: float = math.inf,
    **calibration: Unpack[Calibration],
) -> SatelliteSensor:
    """Make a sensor of pseudoranges; outliers are uniform on a width of `outlier_span`, in metres.

    Args:
        axes: indices of east, north and up.
        clock: index of the receiver's clock, in metres.
        dimension: number of coordinates of the state.
        frame: of the place.
        standard_deviation, outlier_probability, calibration: see `inference.sensors`; `growth` adds to the deviation.
        outlier_span: width of the uniform density of outliers, in metres.
        growth: of the noise with elevation and signal strength.
        maximum_clock: see `SatelliteSensor`.
    """
    numbers, chosen = {"satellite": np.array([0.0, 0.0, 2e7])}, [*axes, clock]
    outliers = outlier_probability, outlier_span
    made = function("pseudorange", chosen, dimension, standard_deviation, numbers, *outliers, **calibration)
    return _of_satellites(made, frame, False, growth, maximum_clock)


def pseudorange_rate(
    axes: Sequence[int],
    velocity_axes: Sequence[int],
    drift: int,
    dimension: int,
    frame: LocalFrame,
    standard_deviation: float,
    outlier_probability: float = 0.0,
    outlier_span: float = 200.0,
    growth: SatelliteNoise = SatelliteNoise(),
    **calibration: Unpack[Calibration],
) -> SatelliteSensor:
    """Make a sensor of the rate of pseudoranges (Doppler), positive if they grow, in m/s.

    `velocity_axes` and `drift` are indices of the velocities and of the clock's drift, in m/s; others are as for
    `pseudorange`, with m/s in place of metres.
    """
    chosen, outliers = [*axes, *velocity_axes, drift], (outlier_probability, outlier_span)
    made = function("range_rate", chosen, dimension, standard_deviation, None, *outliers, **calibration)
    return _of_satellites(made, frame, True, growth)


def _of_satellites(
    made: Sensor, frame: LocalFrame, has_rate: bool, growth: SatelliteNoise, maximum_clock: float = math.inf
) -> SatelliteSensor:
    numbers = {each.name: getattr(made, each.name) for each in fields(Sensor)}
    return SatelliteSensor(
        **numbers, frame=frame, has_rate=has_rate, growth=growth, maximum_clock=maximum_clock
    )
