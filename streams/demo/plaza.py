"""Plaza: ultra-wideband ranges from four beacons to a robot, with survey-grade GPS as the truth.

A lawn mower at work (`plaza1`, 32 minutes) and a faster drive (`plaza2`, 7 minutes), recorded by J. Djugash, B. Hamner
and S. Roth: "Navigating with Ranging Radios: Five Data Sets with Ground Truth", Journal of Field Robotics 26(9), 2009,
https://doi.org/10.1002/rob.20311. The package `gtsam` contains the files.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import ConstantVelocity, Coordinate, Mixture, Model, Observation, RangeSensor
from beliefstream.streams.scores.recording import Recording

PlazaName = Literal["plaza1", "plaza2"]

MAXIMUM_RANGE = 100.0  # m; the longest reported range is 89 m
PRIOR_STANDARD_DEVIATIONS = (2.0, 2.0, 1.0, 1.0)  # m, m, m/s, m/s

_MISSING = (
    "The recording {name} needs the packages gtsam and scipy: pip install 'beliefstream[demo]' ({why})."
)


class RecordingUnavailable(RuntimeError):
    """The files of a recording do not exist; the message says how to get them."""


@dataclass(frozen=True)
class PlazaSettings:
    """Noise of the radios and of the motion, chosen on the first third of plaza1 (`research.recordings.plaza`)."""

    scale: float = 1.069
    bias: float = 0.05591  # m
    deviation: float = 0.5366  # m
    outlier_probability: float = 0.0008562
    spectral_density: float = 0.05  # m²/s³


def plaza(
    which: PlazaName = "plaza1",
    entity: str = "mower",
    settings: PlazaSettings | None = None,
) -> Recording:
    """Read the reported ranges of one robot; the sensors' definitions contain their calibration.

    The ranges are sorted by time, because the times of plaza1 jump back twice, by 64 s and 50 s.

    Args:
        which: `plaza1` (3 529 ranges in 1 932 s) or `plaza2` (1 816 ranges in 409 s).
        entity: name of the robot in the observations and the model.
        settings: settings to use instead of the chosen ones.

    Raises:
        RecordingUnavailable: the package with the files is not installed, or lacks them.
        ValueError: the recording is unknown.
    """
    if which not in get_args(PlazaName):
        raise ValueError(f"which: expected {' or '.join(get_args(PlazaName))}, got {which!r}")
    arrays, chosen = load(which), settings or PlazaSettings()
    truth, beacons, ranges = arrays["GT"], arrays["TL"], arrays["TD"]
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    sensors = {int(row[0]): _beacon(which, row, chosen) for row in beacons}
    times, places = truth[:, 0], truth[:, 1:3]
    start = [float(np.interp(ranges[0, 0], times, column)) for column in places.T]
    return Recording(
        name=which,
        model=_model(entity, start, chosen),
        sensors=tuple(sensors.values()),
        observations=[
            Observation(entity=entity, sensor=sensors[int(beacon)].sensor, time=time, value=value)
            for time, _, beacon, value in ranges.tolist()
        ],
        coordinates=("x", "y"),
        truth_times=times,
        truth=places,
    )


def load(which: PlazaName) -> dict[str, NDArray[np.float64]]:
    """Load the tables GT (time, x, y, heading), TL (beacon, x, y) and TD (time, sender, beacon, range)."""
    path = _file(which, f"{which.capitalize()}_.mat")
    try:
        from scipy.io import loadmat  # imported here, so that the error can say what to install
    except ModuleNotFoundError as error:
        raise RecordingUnavailable(_MISSING.format(name=which, why="scipy is not installed")) from error
    contents = loadmat(path)
    return {name: np.array(contents[name], dtype=np.float64) for name in ("GT", "TL", "TD")}


def _file(which: PlazaName, name: str) -> Path:
    """Find a file of the package without importing it, because its C++ library is not needed."""
    package = importlib.util.find_spec("gtsam")
    if package is None:
        raise RecordingUnavailable(_MISSING.format(name=which, why="gtsam is not installed"))
    folders = [Path(location) / "Data" for location in package.submodule_search_locations or ()]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise RecordingUnavailable(_MISSING.format(name=which, why=f"this version of gtsam lacks {name}"))


def _beacon(which: PlazaName, row: NDArray[np.float64], chosen: PlazaSettings) -> RangeSensor:
    return RangeSensor(
        sensor=f"{which}/beacon-{int(row[0])}",
        position=(float(row[1]), float(row[2])),
        standard_deviation=chosen.deviation,
        scale=chosen.scale,
        bias=chosen.bias,
        outlier_probability=chosen.outlier_probability,
        maximum_range=MAXIMUM_RANGE,
    )


def _model(entity: str, start: list[float], chosen: PlazaSettings) -> Model:
    units = {"x": "m", "y": "m", "vx": "m/s", "vy": "m/s"}
    return Model(
        entity=entity,
        name="mower",
        coordinates=tuple(Coordinate(name=name, unit=unit) for name, unit in units.items()),
        motion=ConstantVelocity(
            positions=("x", "y"), velocities=("vx", "vy"), spectral_density=chosen.spectral_density
        ),
        prior=Mixture.gaussian((*start, 0.0, 0.0), PRIOR_STANDARD_DEVIATIONS),
        live_time=False,
    )
