"""Evidence of a recording: the log density of its observations under definitions, without anybody's truth.

The filter is the one of a worker. Several definitions are tried at once, as so many entities of one log, since a step
of many entities takes little longer than a step of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import ControlSensor, Model, Observation, Sensor
from beliefstream.schemas.sensors.base import Shared
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.scores.own import model_of
from beliefstream.streams.scores.tracks import defined

Array = NDArray[np.float64]


class Definitions(NamedTuple):
    """Sensors, and models of the entities that they observe."""

    sensors: tuple[Sensor, ...]
    models: tuple[Model, ...]

    def owners(self) -> dict[str, str]:
        """Return the device of each sensor by its name; a sensor without one is a device of its own."""
        return {each.sensor: each.owner if isinstance(each, Shared) else each.sensor for each in self.sensors}


class Recorded(NamedTuple):
    """Observations by time, and the time that parts those that settings are fitted to from those kept apart."""

    observations: Sequence[Observation]
    split: float

    def first(self) -> Recorded:
        """Return the part that settings are fitted to."""
        return Recorded([each for each in self.observations if each.time < self.split], self.split)

    def counts(self, sensors: Sequence[Sensor]) -> tuple[int, int]:
        """Return how many observations each part has; controls are none."""
        controls = {each.sensor for each in sensors if isinstance(each, ControlSensor)}
        seen = [each.time < self.split for each in self.observations if each.sensor not in controls]
        return sum(seen), len(seen) - sum(seen)


def evidence(tried: Sequence[Definitions], recorded: Recorded, updater: Updater) -> Array:
    """Return the log evidence of each of C definitions on both parts, ``(C, 2)``, nats.

    It is -inf where the filter found a belief that is not finite.

    Raises:
        Unusable: the definitions contradict each other, or an observation does not fit them.
        ValueError: an entity has no model.
    """
    log = log_of(tried, recorded)
    found, left = np.zeros((len(tried), 2)), np.full(len(tried), log.posteriors // len(tried))
    for fused in log.fuse(updater):
        number = int(fused.entity.partition(":")[0])
        found[number, int(fused.outcome.belief.time >= recorded.split)] += fused.outcome.log_evidence
        left[number] -= 1
    found[(left > 0) | ~np.isfinite(found).all(1)] = -np.inf
    return found


def log_of(tried: Sequence[Definitions], recorded: Recorded) -> Log:
    """Return a log with the observations for each of several definitions; entities are named by its number and `:`."""
    entities = {each.entity for each in recorded.observations}
    log = defined((), ())
    for number, (sensors, models) in enumerate(tried):
        for sensor in sensors:
            log.define_sensor(_renamed(sensor, number))
        for entity in entities:
            model = model_of(entity, models)
            log.define_model(model.model_copy(update={"entity": f"{number}:{entity}"}))
        for each in recorded.observations:
            names = {"entity": f"{number}:{each.entity}", "sensor": f"{number}:{each.sensor}"}
            log.add(each.model_copy(update=names).to_json())
    return log


def _renamed(sensor: Sensor, number: int) -> Sensor:
    names = {"sensor": f"{number}:{sensor.sensor}"}
    if isinstance(sensor, Shared) and sensor.device is not None:
        names["device"] = f"{number}:{sensor.device}"
    return sensor.model_copy(update=names)
