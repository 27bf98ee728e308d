"""The service's beliefs over a drive, by its definitions and messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from beliefstream.schemas import (
    Coordinate,
    LinearMotion,
    Mixture,
    Model,
    Noise,
    NoiseComponent,
    Observation,
    PseudorangeSensor,
)
from beliefstream.schemas.sensors.coordinates import Geodetic
from beliefstream.streams.local.python_fusion import fuse
from research.drive.simulation import (
    ALTITUDE,
    BASE,
    BY_ELEVATION,
    DIFFUSION,
    DRIFT,
    LATITUDE,
    LONGITUDE,
    NAMES,
    PARTS,
    SPREAD,
    Array,
    Drive,
)

SENSOR = PseudorangeSensor(
    sensor="gps",
    origin=Geodetic(latitude=LATITUDE, longitude=LONGITUDE, altitude=ALTITUDE),
    standard_deviation=BASE,
    elevation_deviation=BY_ELEVATION,
    noise=Noise(components=tuple(NoiseComponent(weight=w, bias=b, ratio=r) for w, b, r in PARTS)),
)
MODEL = Model(
    entity="*",
    name="car",
    coordinates=tuple(Coordinate(name=name, unit="m/s" if name[0] in "vd" else "m") for name in NAMES),
    motion=LinearMotion(drift=DRIFT.tolist(), diffusion=DIFFUSION.tolist()),
    prior=Mixture.gaussian((0.0,) * 8, standard_deviations=tuple(SPREAD)),
)


class Parts(NamedTuple):
    """A mixture's parts."""

    weights: Array
    means: Array
    covariances: Array


def posteriors(drive: Drive) -> Iterator[Parts]:
    """The belief over all coordinates after each epoch, in a worker's settings."""
    reports = [
        Observation(entity="car", sensor="gps", time=float(second), value=value, position=tuple(place))
        for second, epoch in enumerate(drive.epochs)
        for place, value in zip(epoch.satellites.tolist(), epoch.values.tolist(), strict=True)
    ]
    last = {each.time: each.mixture for each in fuse(reports, SENSOR, MODEL)}
    for second in range(len(drive.epochs)):
        mixture = last[float(second)]
        yield Parts(mixture.weights, mixture.means, mixture.covariances)
