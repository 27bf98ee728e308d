"""Type of a recording, as every reader returns it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beliefstream.schemas import Model, Observation, Sensor


def _no_times() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, eq=False)
class Recording:
    """Observations of one or several entities, with their definitions and the true states.

    Attributes:
        name: name of the recording.
        model: model of the first entity; its prior applies at the time of the first observation.
        sensors: sensors that the observations name.
        observations: observations, sorted by time.
        coordinates: names of the D scored coordinates, in the units of the model.
        truth_times: increasing times of the truth, (T,), seconds since the epoch. If the truth is unknown, they are
            empty, and the prediction of each next report of the coordinates is scored.
        truth: true coordinates at those times, (T, D).
        other_models: models of the other entities.
        scored_from: time from which beliefs are scored; the earlier part was used to choose the settings.
        lost_beyond: error above which the entity counts as lost, in the unit of the coordinates.
    """

    name: str
    model: Model
    sensors: tuple[Sensor, ...]
    observations: list[Observation]
    coordinates: tuple[str, ...]
    truth_times: NDArray[np.float64] = field(default_factory=_no_times)
    truth: NDArray[np.float64] = field(default_factory=_no_times)
    other_models: tuple[Model, ...] = ()
    scored_from: float = -np.inf
    lost_beyond: float = 10.0

    @property
    def models(self) -> tuple[Model, ...]:
        """Models of all entities."""
        return (self.model, *self.other_models)

    @property
    def has_truth(self) -> bool:
        """Whether the true states are known; otherwise predictions of reports are scored."""
        return len(self.truth_times) > 0

    def shifted(self, seconds: float) -> Recording:
        """Return the recording with all times later by `seconds`."""
        observations = [o.model_copy(update={"time": o.time + seconds}) for o in self.observations]
        return replace(
            self,
            observations=observations,
            truth_times=self.truth_times + seconds,
            scored_from=self.scored_from + seconds,
        )

    def truth_at(self, times: ArrayLike) -> NDArray[np.float64]:
        """Return the true coordinates (N, D) at N times, by linear interpolation.

        Raises:
            ValueError: a time is outside the recorded truth, or the truth is unknown.
        """
        if not self.has_truth:
            raise ValueError(f"the truth of {self.name} is unknown")
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        first, last = self.truth_times[0], self.truth_times[-1]
        outside = wanted[~((wanted >= first) & (wanted <= last))]
        if outside.size:
            raise ValueError(f"time {outside[0]} is outside the truth of {self.name}, {first} to {last}")
        return np.stack([np.interp(wanted, self.truth_times, column) for column in self.truth.T], axis=1)
