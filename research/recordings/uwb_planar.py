"""Ultra-wideband ranges from eight anchors to three tags on a body that moves and turns in a plane, for 135 s.

From LIAS-CUHKSZ/Efficient-Pose-Estimation-via-UWB-measurements (MIT), the fast dynamic experiment, 24 ranges 100 times
a second with motion capture as the truth. Only every fiftieth row is used, because errors of neighbouring rows are
almost equal, so they add almost no information.

The state is the body's position, its heading and their rates. Tags are up to 25 cm from the body's origin, twice the
noise of a range, so the measurement needs the lever arms. Three tags of one body do not move independently, so they are
not three entities. The sensors use the measurement function `tag_range`, which a worker
finds by `BELIEFSTREAM_MEASUREMENTS=research.recordings.uwb_planar`.

The columns of the quaternion are not in the published order w, x, y, z. With x, w, z, y the ranges fit the truth to
8 cm, otherwise only to 23 cm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import register
from beliefstream.schemas import LinearMotion, Model, Observation, OwnSensor
from beliefstream.streams.scores.recording import Recording
from research.recordings.fitting import acceleration_density, outlier_share
from research.recordings.parts import data_file, interpolated, recorded_model, third

UWB = "uwb_planar/UWB_dynamic_exp_fast.csv"
CAPTURE = "uwb_planar/motion_capture_dynamic_exp_fast.csv"
EVERY = 50  # every n-th row is used
SPACING = 0.5  # s, between the true states to which the motion is fitted
LONGEST = 10.0  # m, the longest possible range
PRIOR_STANDARD_DEVIATIONS = (1.0, 1.0, 0.5, 1.0, 1.0, 1.0)  # m, m, rad, m/s, m/s, rad/s, around the start

ANCHORS = (  # m
    (-3.4203, 3.0053, 1.0442),
    (0.0016, 3.0110, 1.0446),
    (3.6056, 2.9795, 1.0463),
    (3.6011, -0.0008, 1.0422),
    (3.5674, -3.0087, 1.0443),
    (-0.0072, -2.9652, 1.0444),
    (-3.4673, -2.9587, 1.0445),
    (-3.4858, -0.0098, 1.0457),
)
TAGS = ((-0.0689, -0.1423), (-0.0750, 0.1402), (0.2034, 0.1451))  # m, in the body's frame
HEIGHT = 0.97  # m, of the body; constant within 2 cm

Array = NDArray[np.float64]


@register("tag_range")
def tag_range(state: Tensor, lever: Tensor, height: Tensor) -> Tensor:
    """Return the distance in space, m.

    Args:
        state: position of the body relative to the anchor, m and m, and its heading, rad, ``(3,)``.
        lever: position of the tag in the body's frame, m, ``(2,)``.
        height: height of the tag above the anchor, m.
    """
    cosine, sine = torch.cos(state[2]), torch.sin(state[2])
    x = state[0] + cosine * lever[0] - sine * lever[1]
    y = state[1] + sine * lever[0] + cosine * lever[1]
    return (x.square() + y.square() + height.square() + 1e-12).sqrt()


@dataclass(frozen=True)
class UwbSettings:
    """Settings chosen on the first third by `python -m research.recordings uwb_planar --tune`."""

    deviation: float = 0.09616  # m
    outlier_probability: float = 0.001383
    place_density: float = 0.2068  # m²/s³
    heading_density: float = 0.04079  # rad²/s³
    # fmt: off
    biases: tuple[float, ...] = (  # m, a row for each anchor
        0.1847, 0.1435, 0.1258, 0.122, 0.0972, 0.0732,
        0.1616, 0.1136, 0.09393, 0.1732, 0.08092, 0.1383,
        0.2567, 0.1588, 0.189, 0.2503, 0.1873, 0.1812,
        0.2793, 0.2383, 0.2446, 0.3063, 0.247, 0.2536,
    )
    # fmt: on


@dataclass(frozen=True, eq=False)
class _Rows:
    times: Array  # (N,) s since the epoch
    ranges: Array  # (N, 24) m, NaN where there is none
    truth_times: Array
    truth: Array  # (M, 3): x, y, heading


def _read(data: Path | None) -> _Rows:
    times, ranges = _table(data_file("uwb_planar", UWB, data), 0, 24)
    truth_times, capture = _table(data_file("uwb_planar", CAPTURE, data), 1, 7)
    heading = np.unwrap(2 * np.arctan2(capture[:, 5], capture[:, 4]))
    order = np.argsort(truth_times, kind="stable")
    truth = np.column_stack([capture[:, :2], heading])[order]
    inside = np.isfinite(times[::EVERY])
    return _Rows(times[::EVERY][inside], ranges[::EVERY][inside], truth_times[order], truth)


def _table(file: Path, heading: int, columns: int) -> tuple[Array, Array]:
    """Read times in seconds since the epoch, and the numbers in the other columns."""
    times, values = [], []
    for line in file.read_text().splitlines()[heading:]:
        time, *cells = line.split(",")
        times.append(datetime.fromisoformat(_padded(time)).replace(tzinfo=UTC).timestamp())
        values.append([float(cell) if cell else np.nan for cell in cells[:columns]])
    return np.array(times), np.array(values)


def _padded(time: str) -> str:
    """Pad the hour to two digits, as ISO 8601 requires."""
    day, _, clock = time.partition(" ")
    return f"{day} {clock.zfill(12 if '.' in clock else 8)}"


def uwb_planar(
    entity: str = "body", data: Path | None = None, settings: UwbSettings | None = None
) -> Recording:
    """Read the ranges of every fiftieth row, calibrated by the chosen biases."""
    rows, chosen = _read(data), settings or UwbSettings()
    first_time = rows.times[0]
    sensors = [_sensor(number, chosen) for number in range(24)]
    observations = [
        Observation(entity=entity, sensor=sensor.sensor, time=time - first_time, value=value)
        for time, values in zip(rows.times.tolist(), rows.ranges.tolist(), strict=True)
        for sensor, value in zip(sensors, values, strict=True)
        if np.isfinite(value)
    ]
    start = interpolated([first_time], rows.truth_times, rows.truth)[0].tolist()
    return Recording(
        name="uwb_planar",
        model=_model(entity, chosen, start),
        sensors=tuple(sensors),
        observations=observations,
        coordinates=("x", "y"),
        truth_times=rows.truth_times - first_time,
        truth=rows.truth[:, :2],
        scored_from=third(rows.times) - first_time,
        lost_beyond=1.0,
    )


def fit(data: Path | None = None) -> UwbSettings:
    """Fit biases and deviation to the residuals and the motion to the truth; raises RecordingUnavailable."""
    rows = _read(data)
    first = rows.times < third(rows.times)
    errors = rows.ranges[first] - _expected(rows)[first]
    biases = np.nanmean(errors, 0)
    residuals = (errors - biases).ravel()
    noise = outlier_share(residuals[np.isfinite(residuals)], LONGEST)
    seen = (rows.truth_times >= rows.times[0]) & (rows.truth_times < third(rows.times))
    times, truth = rows.truth_times[seen], rows.truth[seen]
    place = acceleration_density(times, truth[:, :2], SPACING)
    heading = acceleration_density(times, truth[:, 2:], SPACING)
    return UwbSettings(*noise, place, heading, tuple(biases.tolist()))


def _expected(rows: _Rows) -> Array:
    x, y, heading = interpolated(rows.times, rows.truth_times, rows.truth).T
    columns = []
    for ax, ay, az in ANCHORS:
        for first, second in TAGS:
            tag_x = x + np.cos(heading) * first - np.sin(heading) * second
            tag_y = y + np.sin(heading) * first + np.cos(heading) * second
            columns.append(np.sqrt((tag_x - ax) ** 2 + (tag_y - ay) ** 2 + (HEIGHT - az) ** 2))
    return np.stack(columns, 1)


def _sensor(number: int, chosen: UwbSettings) -> OwnSensor:
    anchor, tag = divmod(number, len(TAGS))
    x, y, z = ANCHORS[anchor]
    return OwnSensor(
        sensor=f"uwb_planar/a{anchor}-t{tag}",
        measurement=tag_range.__name__,
        coordinates=("x", "y", "heading"),
        position=(x, y, 0.0),
        parameters={"lever": TAGS[tag], "height": HEIGHT - z},
        standard_deviation=chosen.deviation,
        bias=chosen.biases[number],
        outlier_probability=chosen.outlier_probability,
        outlier_span=LONGEST,
    )


def _model(entity: str, chosen: UwbSettings, start: list[float]) -> Model:
    units = {"x": "m", "y": "m", "heading": "rad", "vx": "m/s", "vy": "m/s", "turn_rate": "rad/s"}
    densities = (0.0, 0.0, 0.0, chosen.place_density, chosen.place_density, chosen.heading_density)
    motion = LinearMotion(drift=np.eye(6, k=3).tolist(), diffusion=np.diag(densities).tolist())
    return recorded_model(entity, "body", units, motion, (*start, 0.0, 0.0, 0.0), PRIOR_STANDARD_DEVIATIONS)
