"""What becomes known of an entity, and when: beliefs, readings, stated priors, controls, in order of time."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from inference.accumulated import NO_ERROR, AccumulatedError
from inference.mixture import GaussianMixture
from inference.motion import Motion
from inference.readings import ControlReading, Reading, together

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Belief:
    """A mixture over one entity's state at one time: weights ``(k,)``, means ``(k, D)``, covariances ``(k, D, D)``.

    `control` are the motion's inputs from that time on, all of them; None, zero, before any was reported. `error` is
    how far it may be from the exact belief, in nats; none of a belief that is stated.
    """

    time: float
    weights: Array
    means: Array
    covariances: Array
    control: ControlReading | None = None
    error: AccumulatedError = NO_ERROR

    def mixture(self) -> GaussianMixture:
        """As a batch of one, float64."""
        parts = (
            torch.as_tensor(part, dtype=torch.float64)[None]
            for part in (self.weights, self.means, self.covariances)
        )
        return GaussianMixture.from_weights(*parts)


@dataclass(frozen=True, eq=False)
class StateModel:
    """What is assumed of an entity: how it moves, its belief before any observation, and how fine a belief to keep."""

    motion: Motion
    prior: Belief  # its time is not used
    components: int = 8
    expires_after: float = math.inf  # seconds since the last instant; what comes later starts from the prior


@dataclass(frozen=True, eq=False)
class PriorChange:
    """A belief stated from outside: put in place of what is there, or multiplied in; over `axes` only if given."""

    mixture: Belief
    mode: Literal["replace", "product"] = "replace"
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Instant:
    """What becomes known of one entity at one time: readings, a prior or a control, with the labels of their events."""

    time: float
    readings: tuple[Reading, ...] = ()
    prior: PriorChange | None = None
    labels: tuple[int, ...] = ()
    control: ControlReading | None = None

    @property
    def informs(self) -> bool:
        """Whether something is observed or stated; a control alone says nothing of the state at its time."""
        return bool(self.readings) or self.prior is not None


@dataclass(frozen=True, eq=False)
class Event:
    """One entry of a log: a reading, a prior or a control of one entity; `label` is the caller's own."""

    entity: str
    time: float
    reading: Reading | None = None
    prior: PriorChange | None = None
    label: int = -1
    control: ControlReading | None = None


def instants(events: Iterable[Event]) -> list[Instant]:
    """One entity's events in order of time: readings of one time together, priors of that time before them.

    A control comes after them, for it holds from its time on. Readings of one time are put in an order of their own, so
    that it does not matter in which they came; priors of one time are applied in the order given, for the last one
    stated is the last word.
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
