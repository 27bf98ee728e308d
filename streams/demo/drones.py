"""Drones in space, ranged by masts near the ground and seen by a camera; the network answers what quadrature cannot."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import (
    AzimuthElevationSensor,
    Channel,
    ConstantVelocity,
    Coordinate,
    Mixture,
    Model,
    Observation,
    RangeSensor,
)
from beliefstream.streams.local.simulated_fleet import report
from beliefstream.streams.scores.recording import Recording

Array = NDArray[np.float64]

DRONES = ("drone-1", "drone-2", "drone-3")
CENTRE = (180.0, -60.0)  # m; beside the fleet
MASTS = ((-40.0, -30.0, 6.0), (40.0, -30.0, 3.0), (0.0, 45.0, 9.0))  # m, from the centre
CAMERA = (0.0, -70.0, 2.0)  # m, from the centre
RATE = 1.0  # reports of each drone per second
NOISE, ANGLE_NOISE, OUTLIERS = 0.5, 0.02, 0.05  # m; rad; share of the ranges
NAMES = ("x", "y", "z", "vx", "vy", "vz")


def drones(duration: float, seed: int = 0, epoch: float = 0.0) -> tuple[Recording, ...]:
    """Simulate drones that circle and climb; one report at a time, from the masts and the camera in turn.

    Three ranges from near the ground leave a place and its mirror image below: the camera tells them apart.
    """
    sensors = _sensors()
    return tuple(
        _drone(name, number, duration, epoch, sensors, np.random.default_rng((seed, number)))
        for number, name in enumerate(DRONES)
    )


def _sensors() -> tuple[RangeSensor | AzimuthElevationSensor, ...]:
    angle, spatial = Channel(standard_deviation=ANGLE_NOISE), ("x", "y", "z")
    return (
        *(
            RangeSensor(
                sensor=f"airfield/mast-{number}",
                coordinates=spatial,
                position=_placed(place),
                standard_deviation=NOISE,
                maximum_range=300.0,
                outlier_probability=OUTLIERS,
            )
            for number, place in enumerate(MASTS, 1)
        ),
        AzimuthElevationSensor(
            sensor="airfield/camera", position=_placed(CAMERA), azimuth=angle, elevation=angle
        ),
    )


def _placed(place: tuple[float, float, float]) -> tuple[float, float, float]:
    return (CENTRE[0] + place[0], CENTRE[1] + place[1], place[2])


def _drone(
    name: str,
    number: int,
    duration: float,
    epoch: float,
    sensors: tuple[RangeSensor | AzimuthElevationSensor, ...],
    generator: np.random.Generator,
) -> Recording:
    phase = (number + 0.5) / len(DRONES)
    times: Array = np.arange(phase / RATE, duration, 1 / RATE)
    path = _path(times, number)
    observations = [
        Observation(
            entity=name,
            sensor=sensors[place % len(sensors)].sensor,
            time=epoch + float(times[place]),
            value=_report(sensors[place % len(sensors)], path[place], generator),
        )
        for place in range(len(times))
    ]
    model = Model(
        entity=name,
        name="drone",
        coordinates=tuple(Coordinate(name=each, unit="m/s" if each[0] == "v" else "m") for each in NAMES),
        motion=ConstantVelocity(positions=NAMES[:3], velocities=NAMES[3:], spectral_density=0.5),
        prior=Mixture.gaussian((*CENTRE, 25.0, 0.0, 0.0, 0.0), (25.0, 25.0, 12.0, 4.0, 4.0, 1.0)),
        live_time=False,
    )
    return Recording(name, model, sensors, observations, NAMES[:3], epoch + times, path)


def _path(times: Array, number: int) -> Array:
    """Places of a drone, (N, 3) m: a circle, whose height rises and falls."""
    turn = 0.12 * times + math.tau * number / len(DRONES)
    radius, height = 15.0 + 5.0 * number, 25.0 + 8.0 * np.sin(0.05 * times + number)
    across = np.column_stack([radius * np.cos(turn), radius * np.sin(turn)]) + CENTRE
    path: Array = np.column_stack([across, height])
    return path


def _report(
    sensor: RangeSensor | AzimuthElevationSensor, place: Array, generator: np.random.Generator
) -> float | tuple[float, ...]:
    if isinstance(sensor, RangeSensor):
        return report(sensor, dict(zip("xyz", place.tolist(), strict=True)), generator)
    x, y, z = place - np.asarray(sensor.position)
    exact = np.array([math.atan2(y, x), math.atan2(z, math.hypot(x, y))])
    return tuple((exact + ANGLE_NOISE * generator.standard_normal(2)).tolist())
