"""A crate that stands still beside the fleet, and is carried to another place while it is silent (docs/recovery.md)."""

from __future__ import annotations

import numpy as np

from beliefstream.schemas import Coordinate, Mixture, Model, Observation, RandomWalk, RangeSensor
from beliefstream.streams.local.simulated_fleet import report
from beliefstream.streams.scores.recording import Recording

CRATE = "crate"
PLACES = ((116.0, 5.0), (122.0, 3.0))  # m; before and after
BEACONS = ((104.0, -16.0), (104.0, 16.0), (136.0, -16.0), (136.0, 16.0))  # m
REPORTS = 52  # in turns of the beacons; fewer than a joint posterior takes
SILENT = range(10, 18)  # numbers of those that are not sent


def crate(duration: float, seed: int = 0, epoch: float = 0.0) -> Recording:
    """Simulate ranges to the crate, evenly over `duration` seconds from `epoch`; one in twenty is an outlier."""
    generator = np.random.default_rng(seed)
    sensors = tuple(
        RangeSensor(
            sensor=f"yard/range-{number}", position=place, standard_deviation=0.3, outlier_probability=0.05
        )
        for number, place in enumerate(BEACONS, 1)
    )
    times = epoch + duration * (np.arange(REPORTS) + 0.5) / REPORTS
    carried = times[[SILENT[0], SILENT[-1]]]
    truth_times, truth = np.array([epoch, *carried, epoch + duration]), np.repeat(PLACES, 2, axis=0)
    model = Model(
        entity=CRATE,
        name=CRATE,
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        motion=RandomWalk(spectral_density=0.0),
        prior=Mixture.gaussian(np.mean(BEACONS, axis=0), standard_deviations=(10.0, 10.0)),
        live_time=False,
    )
    observations = [
        Observation(
            entity=CRATE,
            sensor=(sensor := sensors[number % len(sensors)]).sensor,
            time=times[number],
            value=report(sensor, dict(zip("xy", PLACES[number > SILENT[0]], strict=True)), generator),
        )
        for number in range(REPORTS)
        if number not in SILENT
    ]
    return Recording(CRATE, model, sensors, observations, ("x", "y"), truth_times, truth)
