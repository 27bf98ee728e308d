"""What the readers share, and changed copies of recordings: a part, no calibration."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beliefstream.schemas import Coordinate, Mixture, Model, Motion, OwnSensor, RangeChannel, Sensor
from beliefstream.streams.demo.plaza import RecordingUnavailable
from beliefstream.streams.scores.recording import Recording

DATA_VARIABLE = "BELIEFSTREAM_DATA"
MOST_ENTITIES = 20  # that settings are chosen by
PLANE = {"x": "m", "y": "m", "vx": "m/s", "vy": "m/s"}  # coordinates of a motion in the plane


def recorded_model(
    entity: str,
    name: str,
    units: Mapping[str, str],
    motion: Motion,
    mean: Sequence[float],
    deviations: Sequence[float],
) -> Model:
    """Return the model of a recorded entity, with a Gaussian prior; `units` are those of its coordinates."""
    return Model(
        entity=entity,
        name=name,
        coordinates=tuple(Coordinate(name=axis, unit=unit) for axis, unit in units.items()),
        motion=motion,
        prior=Mixture.gaussian(mean, deviations),
        live_time=False,
    )


def interpolated(
    times: Sequence[float] | NDArray[np.float64], known: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate the columns of `values` ``(T, D)``, at the times `known`, linearly at `times`: ``(N, D)``."""
    return np.stack([np.interp(times, known, column) for column in values.T], 1)


def without_calibration(recording: Recording) -> Recording:
    """Return the recording with distances as the devices report them: scale 1 and bias 0 instead of fitted ones."""
    return replace(recording, sensors=tuple(map(_uncalibrated, recording.sensors)))


def _uncalibrated(sensor: Sensor) -> Sensor:
    plain = {"scale": 1.0, "bias": 0.0}
    if isinstance(sensor, (RangeChannel, OwnSensor)):  # the recordings' own sensors report distances
        return sensor.model_copy(update=plain)
    changes = {
        name: channel.model_copy(update=plain)
        for name, channel in sensor.parts.items()
        if isinstance(channel, RangeChannel)
    }
    return sensor.model_copy(update=changes)


def limited(recording: Recording, share: float) -> Recording:
    """Return a recording that ends after the first `share` of the scored time.

    Raises:
        ValueError: the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"limit: expected a number above 0 and at most 1, got {share}")
    times = [observation.time for observation in recording.observations]
    first = max(recording.scored_from, times[0])
    last = first + share * (times[-1] - first)
    kept = [observation for observation in recording.observations if observation.time <= last]
    return replace(recording, observations=kept)


def of_few(recording: Recording) -> Recording:
    """Return the part of at most `MOST_ENTITIES` entities: every n-th."""
    model, *others = recording.models[:: math.ceil(len(recording.models) / MOST_ENTITIES)]
    entities = {each.entity for each in (model, *others)}
    kept = [observation for observation in recording.observations if observation.entity in entities]
    return replace(recording, model=model, other_models=tuple(others), observations=kept)


def third(times: ArrayLike, share: float = 1 / 3) -> float:
    """Return the time at which the first third of a recording ends, or another share of it."""
    known = np.asarray(times, dtype=np.float64)
    return float(known.min() + share * (known.max() - known.min()))


def data_file(recording: str, path: str, data: Path | None) -> Path:
    """Return the file at `path` inside the folder `data`, or that of the variable BELIEFSTREAM_DATA if it is None.

    Raises RecordingUnavailable, which names the recording, if no folder is given, or it lacks the file.
    """
    named = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not named:
        raise RecordingUnavailable(
            f"{recording}: give the folder of the recorded data, which contains {path}, by --data or {DATA_VARIABLE}"
        )
    file = Path(named) / path
    if not file.is_file():
        raise RecordingUnavailable(
            f"{recording}: {file} does not exist; give the folder of the recorded data by --data or {DATA_VARIABLE}"
        )
    return file
