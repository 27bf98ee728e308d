"""Bluetooth signal strength: a person carries a beacon through a hall of 20 m by 17 m with 12 receivers.

From philotuxo/Position-Annotated-BLE-RSSI-Dataset (CC0), the recordings `zigzagging_with_rotation` (`ble_rssi`, 97 s)
and `straight_01` (`ble_straight`, 59 s). Their rows are not in order of time and are sorted here. The person's body
blocks the signal, and the person also turns in the first recording, so one reading has little information. The errors
are about 6 dB, which is a factor of two in the distance at 10 m.

The receivers are at heights of 1.2 m and 2.3 m, the beacon at about 1.8 m. The path loss is fitted to the distance in
the plane.

ble_straight uses the settings of ble_rssi, and is scored from its beginning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import ConstantVelocity, Observation, SignalStrengthSensor
from beliefstream.streams.scores.recording import Recording
from research.recordings.fitting import acceleration_density
from research.recordings.parts import PLANE, data_file, recorded_model, third

BleName = Literal["ble_rssi", "ble_straight"]

FILES: dict[BleName, str] = {
    "ble_rssi": "ble_rssi/zigzagging_with_rotation_all_sensors.mbd",
    "ble_straight": "ble_rssi/straight_01_all_sensors.mbd",
}
RECEIVERS = "ble_rssi/tetam.dev"
PULL = 10.0  # number of pseudo-readings without an offset for each receiver
SPACING = 1.0  # s, between the true positions to which the motion is fitted
PRIOR_MEAN = (9.5, 9.0, 0.0, 0.0)  # m, m, m/s, m/s: the middle of the hall
PRIOR_STANDARD_DEVIATIONS = (6.0, 6.0, 1.0, 1.0)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BleSettings:
    """Settings chosen on the first third of ble_rssi by `python -m research.recordings ble_rssi --tune`."""

    reference_power: float = -59.28  # dBm
    exponent: float = 1.778
    deviation: float = 9.059  # dB
    spectral_density: float = 0.05643  # m²/s³
    # fmt: off
    offsets: tuple[float, ...] = (  # dB, of each receiver
        -0.9956, 0.7589, 2.523, -1.753, 0.315, 1.071, -5.508, 0.7163, -0.8877, 0.6373, 1.117, 2.005,
    )
    # fmt: on


@dataclass(frozen=True, eq=False)
class _Rows:
    receivers: dict[str, tuple[float, float]]
    times: Array  # (N,) s since the epoch, increasing
    heard_by: list[str]
    strength: Array  # (N,) dBm
    truth: Array  # (N, 2) m


def _read(which: BleName, data: Path | None) -> _Rows:
    devices = data_file(which, RECEIVERS, data).read_text().splitlines()[0]
    dongles = json.loads(devices.removeprefix("Dongles:"))
    lines = data_file(which, FILES[which], data).read_text().splitlines()
    rows = sorted((line.split(",") for line in lines if line.strip()), key=lambda row: float(row[0]))
    return _Rows(
        {name: (float(place[0]), float(place[1])) for name, (place, *_) in dongles.items()},
        np.array([float(row[0]) for row in rows]),
        [row[1] for row in rows],
        np.array([float(row[3]) for row in rows]),
        np.array([[float(cell) for cell in row[4:6]] for row in rows]),
    )


def ble_rssi(
    which: BleName = "ble_rssi",
    entity: str = "beacon",
    data: Path | None = None,
    settings: BleSettings | None = None,
) -> Recording:
    """Read all readings of all receivers."""
    rows, chosen = _read(which, data), settings or BleSettings()
    times = rows.times - rows.times[0]
    sensors = {
        name: _sensor(name, place, offset, chosen)
        for (name, place), offset in zip(rows.receivers.items(), chosen.offsets, strict=True)
    }
    motion = ConstantVelocity(
        positions=("x", "y"), velocities=("vx", "vy"), spectral_density=chosen.spectral_density
    )
    known, place = np.unique(times, return_index=True)
    return Recording(
        name=which,
        model=recorded_model(entity, "beacon", PLANE, motion, PRIOR_MEAN, PRIOR_STANDARD_DEVIATIONS),
        sensors=tuple(sensors.values()),
        observations=[
            Observation(entity=entity, sensor=sensors[name].sensor, time=time, value=value)
            for name, time, value in zip(rows.heard_by, times.tolist(), rows.strength.tolist(), strict=True)
        ],
        coordinates=("x", "y"),
        truth_times=known,
        truth=rows.truth[place],
        scored_from=third(times) if which == "ble_rssi" else -np.inf,
        lost_beyond=10.0,
    )


def fit(data: Path | None = None) -> BleSettings:
    """Fit the path loss, each receiver's offset and the motion to the truth; raises RecordingUnavailable."""
    rows = _read("ble_rssi", data)
    first = rows.times < third(rows.times)
    places = np.array([rows.receivers[name] for name in rows.heard_by])
    distance = np.linalg.norm(rows.truth - places, axis=1)[first]
    own = np.array([[heard == name for name in rows.receivers] for heard in rows.heard_by])[first]
    columns = np.column_stack([np.ones_like(distance), -10 * np.log10(distance), own])
    # least squares; PULL pseudo-readings with offset zero shrink the offset of a receiver with few readings
    weight = np.diag([0.0, 0.0, *[PULL] * own.shape[1]])
    found = np.linalg.solve(columns.T @ columns + weight, columns.T @ rows.strength[first])
    deviation = float(np.sqrt(np.square(rows.strength[first] - columns @ found).mean()))
    power, exponent, *offsets = found.tolist()
    density = acceleration_density(rows.times[first], rows.truth[first], SPACING)
    return BleSettings(power, exponent, deviation, density, tuple(offsets))


def _sensor(
    name: str, place: tuple[float, float], offset: float, chosen: BleSettings
) -> SignalStrengthSensor:
    return SignalStrengthSensor(
        sensor=f"ble_rssi/{name}",
        position=place,
        reference_power=chosen.reference_power + offset,
        exponent=chosen.exponent,
        standard_deviation=chosen.deviation,
    )
