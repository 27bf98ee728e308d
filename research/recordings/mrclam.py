"""A robot among 15 surveyed landmarks: range and bearing by camera, and wheel odometry, for 12 minutes.

Robot 1 of set 6 of K. Leung, Y. Halpern, T. Barfoot and H. Liu, "The UTIAS multi-robot cooperative localization and
mapping dataset", International Journal of Robotics Research 30(8), 2011, with motion capture as the truth. Sightings of
other robots and of one unknown barcode are not used.

The odometry is the control of the motion: speed and turn rate, averaged over 0.2 s. Each average is reported at the
beginning of its interval, if it differs from the previous one.

The deviations of the camera are four and five times those of its residuals, because its error for one landmark stays
the same for about 8 s, in which it sees the landmark several times. The noise of the odometry is that of its residuals.
A search for it on the first third, which has a quarter of all sightings, gave almost no noise, and far too confident
beliefs on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import (
    Channel,
    ControlSensor,
    Observation,
    RangeChannel,
    RangeRelativeBearingSensor,
    Unicycle,
)
from beliefstream.streams.scores.recording import Recording
from research.recordings.fitting import outlier_share
from research.recordings.parts import data_file, interpolated, recorded_model, third

FOLDER = "mrclam_robot1"
SPACING = 0.2  # s, between averages of the odometry
WINDOW = 2.0  # s, over which the odometry is compared with the truth
MAXIMUM_RANGE = 20.0  # m
ROBOTS = 5  # subjects up to this number are robots
PRIOR_STANDARD_DEVIATIONS = (0.5, 0.5, 0.3)  # m, m, rad, around the start

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MrclamSettings:
    """Settings chosen on the first third by `python -m research.recordings mrclam_robot1 --tune`."""

    range_deviation: float = 0.3711  # m
    range_scale: float = 1.025
    range_bias: float = -0.08023  # m
    range_outliers: float = 0.003001
    bearing_deviation: float = 0.1393  # rad
    bearing_outliers: float = 0.002793
    speed_deviation: float = 0.02192  # m/s
    turn_rate_deviation: float = 0.06793  # rad/s
    depth: bool = False  # whether the camera reports depth instead of distance


@dataclass(frozen=True, eq=False)
class _Rows:
    times: Array  # (N,) s since the epoch
    landmarks: Array  # (N,) subjects
    values: Array  # (N, 2) m, rad
    places: dict[int, tuple[float, float]]  # of the landmarks
    odometry_times: Array  # (M,)
    odometry: Array  # (M, 2) m/s, rad/s
    truth_times: Array
    truth: Array  # (T, 3) m, m, rad

    def pose(self, times: Array) -> Array:
        """Return the true pose at `times`, ``(N, 3)``, m, m, rad."""
        return interpolated(times, self.truth_times, self.truth)


def _read(data: Path | None) -> _Rows:
    def table(name: str) -> Array:
        return np.loadtxt(data_file("mrclam_robot1", f"{FOLDER}/{name}.dat", data), comments="#", ndmin=2)

    subjects = {int(barcode): int(subject) for subject, barcode in table("Barcodes")}
    places = {int(row[0]): (float(row[1]), float(row[2])) for row in table("Landmark_Groundtruth")}
    truth, seen = table("Robot1_Groundtruth"), table("Robot1_Measurement")
    truth[:, 3] = np.unwrap(truth[:, 3])
    landmark = np.array([subjects.get(int(barcode), 0) for barcode in seen[:, 1]])
    inside = (seen[:, 0] >= truth[0, 0]) & (seen[:, 0] <= truth[-1, 0])
    known = (landmark > ROBOTS) & inside
    times, odometry = _averaged(table("Robot1_Odometry"), seen[known][0, 0], seen[known][-1, 0])
    return _Rows(
        seen[known, 0],
        landmark[known],
        seen[known, 2:4],
        places,
        times,
        odometry,
        truth[:, 0],
        truth[:, 1:4],
    )


def _averaged(odometry: Array, first: float, last: float) -> tuple[Array, Array]:
    """Average the odometry, which holds until its next row, over intervals of `SPACING` from `first` to `last`."""
    edges = np.arange(first, last + SPACING, SPACING)
    held = np.diff(odometry[:, 0], append=odometry[-1, 0])[:, None] * odometry[:, 1:]
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(held, 0)])[: len(odometry)]
    travelled = interpolated(edges, odometry[:, 0], total)
    return edges[:-1], np.diff(travelled, axis=0) / SPACING


def mrclam(
    entity: str = "robot",
    data: Path | None = None,
    settings: MrclamSettings | None = None,
) -> Recording:
    """Read the robot's sightings of the landmarks, and its odometry."""
    rows, chosen = _read(data), settings or MrclamSettings()
    start = rows.times[0]
    sensors = {number: _sensor(number, place, chosen) for number, place in rows.places.items()}
    wheels = ControlSensor(
        sensor="mrclam_robot1/odometry",
        inputs=("speed", "turn_rate"),
        standard_deviation=(chosen.speed_deviation, chosen.turn_rate_deviation),
    )
    observations = [
        Observation(entity=entity, sensor=sensors[number].sensor, time=time - start, value=tuple(value))
        for number, time, value in zip(
            rows.landmarks.tolist(), rows.times.tolist(), rows.values.tolist(), strict=True
        )
    ]
    changed = np.concatenate([[True], np.abs(np.diff(rows.odometry, axis=0)).max(1) > 1e-9])
    observations += [
        Observation(entity=entity, sensor=wheels.sensor, time=time - start, value=tuple(value))
        for time, value in zip(
            rows.odometry_times[changed].tolist(), rows.odometry[changed].tolist(), strict=True
        )
    ]
    return Recording(
        name="mrclam_robot1",
        model=recorded_model(
            entity,
            "robot",
            {"x": "m", "y": "m", "heading": "rad"},
            Unicycle(),
            rows.pose(rows.times[:1])[0].tolist(),
            PRIOR_STANDARD_DEVIATIONS,
        ),
        sensors=(*sensors.values(), wheels),
        observations=sorted(observations, key=lambda observation: observation.time),
        coordinates=("x", "y"),
        truth_times=rows.truth_times - start,
        truth=rows.truth[:, :2],
        scored_from=third(rows.times) - start,
        lost_beyond=1.0,
    )


def fit(data: Path | None = None) -> MrclamSettings:
    """Fit calibration and noise to the residuals of the first third; raises RecordingUnavailable."""
    rows = _read(data)
    end = third(rows.times)
    first = rows.times < end
    pose = rows.pose(rows.times[first])
    offset = np.array([rows.places[number] for number in rows.landmarks[first].tolist()]) - pose[:, :2]
    distance = np.hypot(*offset.T)
    scale, bias = np.polyfit(distance, rows.values[first, 0], 1).tolist()
    ranges = rows.values[first, 0] - scale * distance - bias
    turned = rows.values[first, 1] - np.arctan2(offset[:, 1], offset[:, 0]) + pose[:, 2]
    turned = (turned + np.pi) % (2 * np.pi) - np.pi
    range_deviation, range_outliers = outlier_share(ranges, scale * MAXIMUM_RANGE)
    bearing_deviation, bearing_outliers = outlier_share(turned, 2 * np.pi)
    speed, turn_rate = _odometry_deviations(rows, end)
    return MrclamSettings(
        range_deviation, scale, bias, range_outliers, bearing_deviation, bearing_outliers, speed, turn_rate
    )


def _odometry_deviations(rows: _Rows, end: float) -> tuple[float, float]:
    """Return the standard deviation of independent errors in each `SPACING`, from their sum over each `WINDOW`."""
    edges = np.arange(rows.odometry_times[0], end, WINDOW)
    travelled = np.concatenate([np.zeros((1, 2)), np.cumsum(rows.odometry * SPACING, 0)])[
        : len(rows.odometry)
    ]
    stated = interpolated(edges, rows.odometry_times, travelled)
    pose = rows.pose(edges)
    ahead = np.hypot(*np.diff(pose[:, :2], axis=0).T)
    true = np.column_stack([ahead, np.diff(pose[:, 2])])
    variance = np.square(np.diff(stated, axis=0) - true).mean(0)
    speed, turn_rate = np.sqrt(variance / (SPACING * WINDOW)).tolist()
    return speed, turn_rate


def _sensor(number: int, place: tuple[float, float], chosen: MrclamSettings) -> RangeRelativeBearingSensor:
    return RangeRelativeBearingSensor(
        sensor=f"mrclam_robot1/landmark-{number}",
        position=place,
        depth=chosen.depth,
        range=RangeChannel(
            standard_deviation=chosen.range_deviation,
            scale=chosen.range_scale,
            bias=chosen.range_bias,
            outlier_probability=chosen.range_outliers,
            maximum_range=MAXIMUM_RANGE,
        ),
        bearing=Channel(
            standard_deviation=chosen.bearing_deviation, outlier_probability=chosen.bearing_outliers
        ),
    )
