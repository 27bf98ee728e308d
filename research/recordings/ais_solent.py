"""Ships in the Solent: 84 minutes of AIS radio reports from 91 ships, on 12 January 2016.

From dstl/Stone-Soup (MIT), 18 623 reports of position, course and speed. The true positions are unknown. So the
prediction of each ship's next reported position is scored, before the report is applied.

Exact duplicates are removed, and so are positions more than 50 km from the middle, which are errors. The course of a
ship at rest has no information. It is used from 0.5 kn on, with the error that follows from the error of the speed. The
time of a report has an error of about a second, which displaces a fast ship along its course: of the moving ships, one
report in 25 repeats the previous position about 2 s later. The covariance of each position includes this error.

The model has no outliers of course and speed. With 2 % of outliers it would treat the turns of a ferry as outliers, and
the log density of the next reports in the first third would be 0.2 nats lower.

A ship may not report for half an hour and may turn or moor in this time, so the velocity of the model decays.

The settings are chosen on the first third of the recording, for the largest density of each next report under a Kalman
filter. `python -m research.recordings ais_solent --tune` searches from there, for that density under our filter.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from beliefstream.schemas import (
    CourseSensor,
    DecayingVelocity,
    Geodetic,
    GeodeticSensor,
    Model,
    Observation,
    Sensor,
    SpeedSensor,
)
from beliefstream.schemas.base import Matrix
from beliefstream.streams.scores.recording import Recording
from research.recordings.parts import PLANE, data_file, recorded_model, third

FILE = "ais_solent/SolentAIS_20160112_130211.csv"
MIDDLE = Geodetic(latitude=50.75, longitude=-1.25)
FARTHEST = 50_000.0  # m, from the middle
METRES_A_DEGREE = 111_200.0  # per degree of latitude; accurate enough for `FARTHEST` and the priors
KNOT = 0.514444  # m/s
SLOWEST = 0.5  # kn; the course of a slower ship is not used
PRIOR_STANDARD_DEVIATIONS = (30.0, 30.0, 1.0, 1.0)  # m, m, m/s, m/s, around the first report


@dataclass(frozen=True)
class AisSettings:
    """Settings chosen on the first third."""

    place_deviation: float = 1.375  # m
    delay_deviation: float = 1.1  # s
    speed_deviation: float = 0.2254  # kn
    course_deviation: float = 2.31  # °
    spectral_density: float = 0.01  # m²/s³
    time_constant: float = 500.0  # s
    outlier_probability: float = 0.0  # of course and speed; not fitted


@dataclass(frozen=True)
class _Report:
    time: float
    ship: str
    latitude: float
    longitude: float
    course: float  # degrees, clockwise from north
    speed: float  # kn

    @property
    def place(self) -> tuple[float, float]:
        """Position east and north of the middle, m, with a relative error of 0.1 %."""
        east = np.cos(np.radians(MIDDLE.latitude)) * (self.longitude - MIDDLE.longitude)
        return METRES_A_DEGREE * float(east), METRES_A_DEGREE * (self.latitude - MIDDLE.latitude)


def _read(data: Path | None) -> list[_Report]:
    with data_file("ais_solent", FILE, data).open(newline="") as file:
        reports = {
            _Report(
                datetime.fromisoformat(row["Time"]).replace(tzinfo=UTC).timestamp(),
                row["MMSI"],
                float(row["Latitude_degrees"]),
                float(row["Longitude_degrees"]),
                float(row["COG_degrees"]),
                float(row["SOG_knots"]),
            )
            for row in csv.DictReader(file)
        }
    near = (report for report in reports if float(np.hypot(*report.place)) <= FARTHEST)
    return sorted(near, key=lambda report: (report.time, report.ship))


def ais_solent(
    entity: str = "ship", data: Path | None = None, settings: AisSettings | None = None
) -> Recording:
    """Read the recording: every ship is an entity, and each report gives three observations at one time.

    An entity is named `entity` and the ship's number.
    """
    reports, chosen = _read(data), settings or AisSettings()
    start = reports[0].time
    ships: dict[str, list[_Report]] = defaultdict(list)
    for report in reports:
        ships[report.ship].append(report)
    models = [_model(f"{entity}-{ship}", own[0], chosen) for ship, own in ships.items()]
    sensors = _sensors(chosen)
    observations = []
    for report in reports:
        observations += _observations(f"{entity}-{report.ship}", report, report.time - start, chosen)
    return Recording(
        name="ais_solent",
        model=models[0],
        other_models=tuple(models[1:]),
        sensors=sensors,
        observations=observations,
        coordinates=("x", "y"),
        scored_from=third([report.time - start for report in reports]),
        lost_beyond=1000.0,
    )


def fit(data: Path | None = None) -> AisSettings:
    """Return the present settings, from which the search starts: without a truth there are no residuals to fit."""
    return AisSettings()


def _observations(entity: str, report: _Report, time: float, chosen: AisSettings) -> list[Observation]:
    found = [
        Observation(
            entity=entity,
            sensor="ais/place",
            time=time,
            value=(report.latitude, report.longitude),
            covariance=_displaced(report, chosen),
        ),
        Observation(entity=entity, sensor="ais/speed", time=time, value=report.speed),
    ]
    if report.speed >= SLOWEST:
        turned = np.degrees(chosen.speed_deviation / report.speed)
        deviation = float(np.hypot(chosen.course_deviation, turned))
        found.append(
            Observation(
                entity=entity,
                sensor="ais/course",
                time=time,
                value=report.course,
                standard_deviation=deviation,
            )
        )
    return found


def _displaced(report: _Report, chosen: AisSettings) -> Matrix:
    """Return the covariance of a reported position that may be some seconds old, east and north, m²."""
    course, late = np.radians(report.course), KNOT * report.speed * chosen.delay_deviation
    along = late * np.array([np.sin(course), np.cos(course)])
    covariance = chosen.place_deviation**2 * np.eye(2) + np.outer(along, along)
    return tuple(tuple(row) for row in covariance.tolist())


def _sensors(chosen: AisSettings) -> tuple[Sensor, ...]:
    return (
        GeodeticSensor(sensor="ais/place", origin=MIDDLE, standard_deviation=chosen.place_deviation),
        SpeedSensor(
            sensor="ais/speed",
            standard_deviation=chosen.speed_deviation,
            scale=1 / KNOT,
            maximum_speed=50.0,
            outlier_probability=chosen.outlier_probability,
        ),
        CourseSensor(
            sensor="ais/course",
            standard_deviation=chosen.course_deviation,
            scale=-180 / np.pi,
            bias=90.0,
            outlier_probability=chosen.outlier_probability,
        ),
    )


def _model(entity: str, first: _Report, chosen: AisSettings) -> Model:
    speed, course = KNOT * first.speed, np.radians(first.course)
    mean = (*first.place, float(speed * np.sin(course)), float(speed * np.cos(course)))
    motion = DecayingVelocity(
        positions=("x", "y"),
        velocities=("vx", "vy"),
        time_constant=chosen.time_constant,
        spectral_density=chosen.spectral_density,
    )
    return recorded_model(entity, "ship", PLANE, motion, mean, PRIOR_STANDARD_DEVIATIONS)
