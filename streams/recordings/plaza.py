"""Plaza: ultra-wideband ranges from four beacons to a robot, with survey-grade GPS as the truth.

A lawn mower at work (`plaza1`, 32 minutes) and a faster drive (`plaza2`, 7 minutes), recorded by J. Djugash,
B. Hamner and S. Roth: "Navigating with Ranging Radios: Five Data Sets with Ground Truth", Journal of Field
Robotics 26(9), 2009, https://doi.org/10.1002/rob.20311. The package `gtsam` carries the files.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from schemas import ConstantVelocity, Coordinate, Mixture, Model, Observation, RangeSensor
from streams.recordings.recording import Recording, RecordingUnavailable

PlazaName = Literal["plaza1", "plaza2"]

# Fitted to the ranges against the truth; the radios of both recordings agree to 0.1 % and 3 cm. No range is
# farther than 1.9 m (plaza1) or 2.0 m (plaza2) from the fit.
SCALE = 1.069
BIAS = 0.03  # m
STANDARD_DEVIATION = 0.55  # m
OUTLIER_PROBABILITY = 0.05
MAXIMUM_RANGE = 100.0  # m; the longest reported is 89 m
SPECTRAL_DENSITY = 0.2  # m²/s³
PRIOR_STANDARD_DEVIATIONS = (2.0, 2.0, 1.0, 1.0)  # m, m, m/s, m/s

_MISSING = "the {name} recording needs the packages gtsam and scipy: pip install 'beliefstream[demo]' ({why})"


def plaza(which: PlazaName = "plaza1", entity: str = "mower", epoch: float = 0.0) -> Recording:
    """The ranges of one robot, as the radios reported them: the sensors' calibration says what they mean.

    They are sorted by time: the file of plaza1 jumps back twice, by 64 s and 50 s.

    Args:
        which: `plaza1` has 3 529 ranges in 1 932 s, `plaza2` 1 816 in 409 s.
        entity: what the robot is called in the observations and the model.
        epoch: added to all times, s; without it they count from an origin of the recording's own.

    Raises:
        RecordingUnavailable: the package with the files is not installed, or lacks them.
        ValueError: there is no such recording.
    """
    if which not in get_args(PlazaName):
        raise ValueError(f"no Plaza recording is called {which!r}: {' or '.join(get_args(PlazaName))}")
    arrays = _load(which)
    truth, beacons, ranges = arrays["GT"], arrays["TL"], arrays["TD"]
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    ranges[:, 0] += epoch
    sensors = {int(row[0]): _beacon(which, row) for row in beacons}
    times, places = truth[:, 0] + epoch, truth[:, 1:3]
    start = [float(np.interp(ranges[0, 0], times, column)) for column in places.T]
    return Recording(
        name=which,
        model=_model(entity, start),
        sensors=tuple(sensors.values()),
        observations=[
            Observation(entity=entity, sensor=sensors[int(beacon)].sensor, time=time, value=value)
            for time, _, beacon, value in ranges.tolist()
        ],
        coordinates=("x", "y"),
        truth_times=times,
        truth=places,
    )


def _load(which: PlazaName) -> dict[str, NDArray[np.float64]]:
    """GT: time, x, y, heading. TL: beacon, x, y. TD: time, sender, beacon, range."""
    path = _file(which, f"{which.capitalize()}_.mat")
    try:
        from scipy.io import loadmat  # here, so that the error can say what to install
    except ModuleNotFoundError as error:
        raise RecordingUnavailable(_MISSING.format(name=which, why="scipy is not there")) from error
    contents = loadmat(path)
    return {name: np.array(contents[name], dtype=np.float64) for name in ("GT", "TL", "TD")}


def _file(which: PlazaName, name: str) -> Path:
    """Where the package keeps a file, found without importing it: its C++ library is of no use here."""
    package = importlib.util.find_spec("gtsam")
    if package is None:
        raise RecordingUnavailable(_MISSING.format(name=which, why="gtsam is not there"))
    folders = [Path(location) / "Data" for location in package.submodule_search_locations or ()]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise RecordingUnavailable(_MISSING.format(name=which, why=f"this gtsam has no {name}"))


def _beacon(which: PlazaName, row: NDArray[np.float64]) -> RangeSensor:
    return RangeSensor(
        sensor=f"{which}/beacon-{int(row[0])}",
        position=(float(row[1]), float(row[2])),
        standard_deviation=STANDARD_DEVIATION,
        scale=SCALE,
        bias=BIAS,
        outlier_probability=OUTLIER_PROBABILITY,
        maximum_range=MAXIMUM_RANGE,
    )


def _model(entity: str, start: list[float]) -> Model:
    units = {"x": "m", "y": "m", "vx": "m/s", "vy": "m/s"}
    return Model(
        entity=entity,
        name="mower",
        coordinates=tuple(Coordinate(name=name, unit=unit) for name, unit in units.items()),
        motion=ConstantVelocity(
            positions=("x", "y"), velocities=("vx", "vy"), spectral_density=SPECTRAL_DENSITY
        ),
        prior=Mixture.gaussian((*start, 0.0, 0.0), PRIOR_STANDARD_DEVIATIONS),
    )
