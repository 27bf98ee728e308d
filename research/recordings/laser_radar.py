"""Laser and radar: a simulated pedestrian walks a winding path for 25 s.

500 rows 50 ms apart, alternately from a laser scanner (position) and a radar (range, bearing and range rate), both at
the origin. From udacity/CarND-Extended-Kalman-Filter-Project (MIT).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import (
    BearingSensor,
    ConstantVelocity,
    Observation,
    PositionSensor,
    RangeRateSensor,
    RangeSensor,
    Sensor,
)
from beliefstream.streams.scores.recording import Recording
from research.recordings.fitting import acceleration_density
from research.recordings.parts import PLANE, data_file, interpolated, recorded_model, third

FILE = "laser_radar/obj_pose-laser-radar-synthetic-input.txt"
PRIOR_STANDARD_DEVIATIONS = (5.0, 5.0, 5.0, 5.0)  # m, m, m/s, m/s, around the sensors
SPACING = 0.5  # s, between the true states to which the motion is fitted
EPOCH = 1_477_010_443.0  # s; origin of the times, so that they lose no digits

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LaserRadarSettings:
    """Settings chosen on the first third by `python -m research.recordings laser_radar --tune`."""

    laser_deviation: float = 0.1437  # m
    range_deviation: float = 0.2486  # m
    bearing_deviation: float = 0.02821  # rad
    range_rate_deviation: float = 0.3032  # m/s
    spectral_density: float = 1.119  # m²/s³


@dataclass(frozen=True, eq=False)
class _Rows:
    laser_times: Array  # (N,) s
    laser: Array  # (N, 2) m
    radar_times: Array  # (M,) s
    radar: Array  # (M, 3) m, rad, m/s
    times: Array  # of the truth, for both sensors
    truth: Array  # (N + M, 4) m, m, m/s, m/s

    def expected(self, times: Array) -> Array:
        """Return the true states at `times`."""
        return interpolated(times, self.times, self.truth)


def _read(data: Path | None) -> _Rows:
    file = data_file("laser_radar", FILE, data)
    rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
    laser = np.array([row[1:8] for row in rows if row[0] == "L"], dtype=float)
    radar = np.array([row[1:9] for row in rows if row[0] == "R"], dtype=float)
    laser[:, 2], radar[:, 3] = laser[:, 2] * 1e-6 - EPOCH, radar[:, 3] * 1e-6 - EPOCH
    truth = np.concatenate([laser[:, 2:], radar[:, 3:]])
    truth = truth[np.argsort(truth[:, 0], kind="stable")]
    return _Rows(laser[:, 2], laser[:, :2], radar[:, 3], radar[:, :3], truth[:, 0], truth[:, 1:5])


def laser_radar(
    entity: str = "pedestrian",
    data: Path | None = None,
    settings: LaserRadarSettings | None = None,
) -> Recording:
    """Read the reports of both sensors, one of each every tenth of a second."""
    rows, chosen = _read(data), settings or LaserRadarSettings()
    place, distance, direction, growth = _sensors(chosen)
    observations = [
        Observation(entity=entity, sensor=place.sensor, time=time, value=value)
        for time, value in zip(rows.laser_times.tolist(), rows.laser.tolist(), strict=True)
    ]
    for time, values in zip(rows.radar_times.tolist(), rows.radar.tolist(), strict=True):
        observations += [
            Observation(entity=entity, sensor=sensor.sensor, time=time, value=value)
            for sensor, value in zip((distance, direction, growth), values, strict=True)
        ]
    motion = ConstantVelocity(
        positions=("x", "y"), velocities=("vx", "vy"), spectral_density=chosen.spectral_density
    )
    return Recording(
        name="laser_radar",
        model=recorded_model(entity, "pedestrian", PLANE, motion, (0.0,) * 4, PRIOR_STANDARD_DEVIATIONS),
        sensors=(place, distance, direction, growth),
        observations=sorted(observations, key=lambda observation: observation.time),
        coordinates=("x", "y"),
        truth_times=rows.times,
        truth=rows.truth[:, :2],
        scored_from=third(rows.times),
        lost_beyond=3.0,
    )


def fit(data: Path | None = None) -> LaserRadarSettings:
    """Fit the noise of both sensors to their residuals and the motion to the truth; raises RecordingUnavailable."""
    rows = _read(data)
    end = third(rows.times)
    laser, radar = rows.laser_times <= end, rows.radar_times <= end
    truth = rows.expected(rows.radar_times[radar])
    distance = np.linalg.norm(truth[:, :2], axis=1)
    rate = (truth[:, :2] * truth[:, 2:]).sum(1) / distance
    residuals = rows.radar[radar] - np.stack([distance, np.arctan2(truth[:, 1], truth[:, 0]), rate], 1)
    residuals[:, 1] = (residuals[:, 1] + np.pi) % (2 * np.pi) - np.pi
    places = rows.laser[laser] - rows.expected(rows.laser_times[laser])[:, :2]
    range_deviation, bearing_deviation, rate_deviation = np.sqrt(np.square(residuals).mean(0)).tolist()
    laser_deviation = float(np.sqrt(np.square(places).mean()))
    first = rows.times < end
    density = acceleration_density(rows.times[first], rows.truth[first, :2], SPACING)
    return LaserRadarSettings(laser_deviation, range_deviation, bearing_deviation, rate_deviation, density)


def _sensors(chosen: LaserRadarSettings) -> tuple[Sensor, Sensor, Sensor, Sensor]:
    origin = (0.0, 0.0)
    return (
        PositionSensor(sensor="laser", standard_deviation=chosen.laser_deviation),
        RangeSensor(sensor="radar/range", position=origin, standard_deviation=chosen.range_deviation),
        BearingSensor(sensor="radar/bearing", position=origin, standard_deviation=chosen.bearing_deviation),
        RangeRateSensor(
            sensor="radar/range-rate", position=origin, standard_deviation=chosen.range_rate_deviation
        ),
    )
