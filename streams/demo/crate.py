"""A crate that stands still beside the fleet, and is carried to another place while it is silent (docs/recovery.md)."""

from __future__ import annotations

import numpy as np

from beliefstream.schemas import Coordinate, Mixture, Model, Observation, RandomWalk, RangeSensor
from beliefstream.streams.local.simulated_fleet import report
from beliefstream.streams.scores.recording import Recording

CRATE = "crate"
PLACES = ((116.0, 5.0), (122.0, 3.0))  # m; before and after
BEACONS = ((104.0, -16.0), (104.0, 16.0), (136.0, -16.0), (136.0, 16.0))  # m
BEFORE, SILENT, AFTER = 10, 8, 34  # reports; both together are fewer than a joint posterior takes


def crate(duration: float, seed: int = 0, epoch: float = 0.0, before: int = BEFORE) -> Recording:
    """Simulate ranges of the beacons in turn, evenly over `duration` seconds from `epoch`; one in twenty is an outlier.

    The crate is carried after `before` reports, while `SILENT` reports are not sent, and sends `AFTER` more.
    """
    generator = np.random.default_rng(seed)
    sensors = tuple(
        RangeSensor(
            sensor=f"yard/range-{number}", position=place, standard_deviation=0.3, outlier_probability=0.05
        )
        for number, place in enumerate(BEACONS, 1)
    )
    every = duration / (before + SILENT + AFTER)
    carried = epoch + every * np.array([before, before + SILENT])
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
            time=epoch + every * (number + 0.5),
            value=report(sensor, dict(zip("xy", PLACES[number > before], strict=True)), generator),
        )
        for number in (*range(before), *range(before + SILENT, before + SILENT + AFTER))
    ]
    return Recording(CRATE, model, sensors, observations, ("x", "y"), truth_times, truth)
