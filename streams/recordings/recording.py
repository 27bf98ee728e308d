"""The type that every reader of a recording returns."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beliefstream.schemas import Mixture, Model, Observation, Sensor

DATA_VARIABLE = "BELIEFSTREAM_DATA"


class RecordingUnavailable(RuntimeError):
    """The files of a recording are not on this machine; the text says how to get them."""


def _no_times() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Recording:
    """Observations of one or several entities, their definitions, and the true states.

    Attributes:
        name: of the recording.
        model: the entity's model; its prior is for the time of the first observation.
        sensors: the sensors that the observations name.
        observations: sorted by time.
        coordinates: the D coordinates that are scored, by their names in the model and in its units.
        truth_times: (T,), seconds since the epoch, increasing; empty if the truth is unknown, and then the prediction
            of each next report of the coordinates is scored.
        truth: (T, D), the true coordinates at those times.
        others: models of the other entities, if there are several.
        scored_from: time from which beliefs are scored; the part before it was used to choose the settings.
        lost_beyond: error, in the coordinates' unit, above which the entity counts as lost.
    """

    name: str
    model: Model
    sensors: tuple[Sensor, ...]
    observations: list[Observation]
    coordinates: tuple[str, ...]
    truth_times: NDArray[np.float64] = field(default_factory=_no_times)
    truth: NDArray[np.float64] = field(default_factory=_no_times)
    others: tuple[Model, ...] = ()
    scored_from: float = -np.inf
    lost_beyond: float = 10.0

    @property
    def models(self) -> tuple[Model, ...]:
        """Models of all entities."""
        return (self.model, *self.others)

    @property
    def has_truth(self) -> bool:
        """Whether the true states are known; otherwise reports are predicted."""
        return len(self.truth_times) > 0

    def truth_at(self, times: ArrayLike) -> NDArray[np.float64]:
        """The true coordinates (N, D) at N times, linear between the recorded ones.

        Raises:
            ValueError: a time is outside the recorded truth, or there is none.
        """
        if not self.has_truth:
            raise ValueError(f"the truth of {self.name} is not known")
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        first, last = self.truth_times[0], self.truth_times[-1]
        outside = wanted[~((wanted >= first) & (wanted <= last))]
        if outside.size:
            raise ValueError(f"time {outside[0]} is outside the truth of {self.name}, {first} to {last}")
        return np.stack([np.interp(wanted, self.truth_times, column) for column in self.truth.T], axis=1)


def with_wide_prior(recording: Recording, deviation: float = 1000.0) -> Recording:
    """Return the recording with a prior that knows only the region.

    The prior of the scored coordinates gets that standard deviation, and a mean that is wrong by as much, as drawn from
    such a prior. Correlations are removed; mean and deviation of the other coordinates are unchanged.
    """
    models = [_widened(model, recording.coordinates, deviation) for model in recording.models]
    return replace(recording, model=models[0], others=tuple(models[1:]))


def _widened(model: Model, coordinates: tuple[str, ...], deviation: float) -> Model:
    axes = [model.coordinate_names.index(name) for name in coordinates]
    mean, deviations = np.array(model.prior.mean()), np.array(model.prior.standard_deviations())
    away = np.linspace(0.6, -0.8, len(axes))
    mean[axes] += deviation * away / np.linalg.norm(away)
    deviations[axes] = deviation
    return model.model_copy(update={"prior": Mixture.gaussian(mean.tolist(), deviations.tolist())})


def limited(recording: Recording, share: float) -> Recording:
    """Return the part for choosing settings, and the first `share` of the time that is scored.

    Raises:
        ValueError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"limit: {share} is not above 0 and at most 1")
    times = [observation.time for observation in recording.observations]
    first = max(recording.scored_from, times[0])
    last = first + share * (times[-1] - first)
    kept = [observation for observation in recording.observations if observation.time <= last]
    return replace(recording, observations=kept)


def third(times: ArrayLike, share: float = 1 / 3) -> float:
    """The time at which the first third of a recording ends."""
    known = np.asarray(times, dtype=np.float64)
    return float(known.min() + share * (known.max() - known.min()))


def data_file(recording: str, path: str, data: Path | None) -> Path:
    """Return a file of a recording in the data folder.

    Args:
        recording: its name, for the error.
        path: below the data folder.
        data: the folder; that of the environment variable BELIEFSTREAM_DATA if None.

    Raises:
        RecordingUnavailable: neither names a folder, or it lacks the file.
    """
    named = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not named:
        raise RecordingUnavailable(
            f"{recording}: name the folder of the recorded data by --data or {DATA_VARIABLE}; {path} is read from it"
        )
    file = Path(named) / path
    if not file.is_file():
        raise RecordingUnavailable(
            f"{recording}: {file} is not there; --data or {DATA_VARIABLE} names its folder"
        )
    return file
