"""Beliefs, readings, priors and controls of an entity, in order of time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Motion
from beliefstream.inference.sensors.readings import ControlReading, Reading, together
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Belief:
    """A mixture over one entity's state at one time: weights ``(k,)``, means ``(k, D)``, covariances ``(k, D, D)``.

    `control` holds all of the motion's inputs from that time on; None means zero, as before any report. `error` is the
    estimated divergence from the exact belief in nats; zero for a stated belief.
    """

    time: float
    weights: Array
    means: Array
    covariances: Array
    control: ControlReading | None = None
    error: AccumulatedError = NO_ERROR

    def mixture(self) -> GaussianMixture:
        """The belief as a float64 batch of one."""
        parts = (
            torch.as_tensor(part, dtype=torch.float64)[None]
            for part in (self.weights, self.means, self.covariances)
        )
        return GaussianMixture.from_weights(*parts)


@dataclass(frozen=True, eq=False)
class StateModel:
    """Assumptions about an entity: its motion, its prior before any observation, and how many components to keep."""

    motion: Motion
    prior: Belief  # its time is not used
    components: int = 8
    expires_after: float = math.inf  # seconds since the last instant; then the belief restarts at the prior


@dataclass(frozen=True, eq=False)
class PriorChange:
    """A belief stated from outside: it replaces the current one or multiplies it, over `axes` only if given."""

    mixture: Belief
    mode: Literal["replace", "product"] = "replace"
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Instant:
    """The readings, prior or control of one entity at one time, with the labels of their events."""

    time: float
    readings: tuple[Reading, ...] = ()
    prior: PriorChange | None = None
    labels: tuple[int, ...] = ()
    control: ControlReading | None = None

    @property
    def informs(self) -> bool:
        """Whether there is a reading or a prior; a control alone says nothing about the state at its time."""
        return bool(self.readings) or self.prior is not None


@dataclass(frozen=True, eq=False)
class Event:
    """One entry of a log: a reading, a prior or a control of one entity; `label` is for the caller's use."""

    entity: str
    time: float
    reading: Reading | None = None
    prior: PriorChange | None = None
    label: int = -1
    control: ControlReading | None = None


def instants(events: Iterable[Event]) -> list[Instant]:
    """Group one entity's events by time, in order: priors of a time come before its readings.

    A control comes last, as it holds from its time on. Readings of one time are sorted by content, so their order of
    arrival does not matter. Priors of one time are applied in the order given, so the last one stated wins.
    """
    readings: dict[float, list[tuple[Reading, int]]] = defaultdict(list)
    priors: dict[float, list[tuple[PriorChange, int]]] = defaultdict(list)
    controls: dict[float, list[tuple[ControlReading, int]]] = defaultdict(list)
    for event in events:
        if event.control is not None:
            controls[event.time].append((event.control, event.label))
        if event.reading is not None:
            readings[event.time].append((event.reading, event.label))
        if event.prior is not None:
            priors[event.time].append((event.prior, event.label))
    result: list[Instant] = []
    for time in sorted({*readings, *priors, *controls}):
        result.extend(Instant(time, prior=change, labels=(label,)) for change, label in priors.get(time, ()))
        if time in readings:
            seen, labels = zip(*_ordered(readings[time]), strict=True)
            result.append(Instant(time, seen, labels=labels))
        if time in controls:
            reported, labels = zip(*controls[time], strict=True)
            result.append(Instant(time, labels=labels, control=together(reported)))
    return result


def _ordered(readings: list[tuple[Reading, int]]) -> list[tuple[Reading, int]]:
    return sorted(readings, key=lambda pair: pair[0].content) if len(readings) > 1 else readings
