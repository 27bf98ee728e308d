"""What every reader of a recording returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas import Model, Observation, Sensor


class RecordingUnavailable(RuntimeError):
    """The files of a recording are not on this machine; the text says how to get them."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Observations of one entity, the definitions they need, and where the entity really was.

    Attributes:
        name: of the recording.
        model: the entity's model; its prior is for the time of the first observation.
        sensors: the sensors that the observations name.
        observations: sorted by time.
        coordinates: the D coordinates of the truth, by their names in the model and in its units.
        truth_times: (T,), seconds since the epoch, increasing.
        truth: (T, D), the true coordinates at those times.
    """

    name: str
    model: Model
    sensors: tuple[Sensor, ...]
    observations: list[Observation]
    coordinates: tuple[str, ...]
    truth_times: NDArray[np.float64]
    truth: NDArray[np.float64]

    def truth_at(self, times: ArrayLike) -> NDArray[np.float64]:
        """The true coordinates (N, D) at N times, linear between the recorded ones.

        Raises:
            ValueError: a time lies outside the recorded truth.
        """
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        first, last = self.truth_times[0], self.truth_times[-1]
        outside = wanted[~((wanted >= first) & (wanted <= last))]
        if outside.size:
            raise ValueError(f"time {outside[0]} is outside the truth of {self.name}, {first} to {last}")
        return np.stack([np.interp(wanted, self.truth_times, column) for column in self.truth.T], axis=1)
