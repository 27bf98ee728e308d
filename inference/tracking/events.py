"""Beliefs and events of entities: readings, priors and controls.

What is made for every observation is a struct of msgspec: a frozen dataclass takes ten times as long to make.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Motion
from beliefstream.inference.sensors.persistent import PersistentError
from beliefstream.inference.sensors.readings import ControlReading, Reading, together
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError, AccumulatedErrors

Array = NDArray[np.float64]


class Hidden(NamedTuple):
    """The errors that are hidden coordinates of a belief, in order, and the times of their last reports, seconds."""

    errors: tuple[PersistentError, ...] = ()
    seen: tuple[float, ...] = ()


NO_HIDDEN = Hidden()


class Belief(msgspec.Struct, frozen=True, eq=False):
    """Belief about the state of one entity at one time, a Gaussian mixture.

    Attributes:
        time: in seconds.
        weights: ``(k,)``, with sum 1.
        means: ``(k, D)``, in the units of the coordinates.
        covariances: ``(k, D, D)``.
        control: all inputs of the motion from that time on; None for zero.
        error: estimated divergence from the exact belief; zero for a stated belief.
        hidden: the last of the D coordinates, which are not of the state.
        modes: number of components of each mode of the motion noise, in order; empty if all modes are alike.
    """

    time: float
    weights: Array
    means: Array
    covariances: Array
    control: ControlReading | None = None
    error: AccumulatedError = NO_ERROR
    hidden: Hidden = NO_HIDDEN
    modes: tuple[int, ...] = ()

    def mixture(self) -> GaussianMixture:
        """Return the belief as a batch of one, float64."""
        parts = (
            torch.as_tensor(part, dtype=torch.float64)[None]
            for part in (self.weights, self.means, self.covariances)
        )
        return GaussianMixture.from_weights(*parts)


@dataclass(frozen=True, eq=False)
class StateModel:
    """Model of an entity: its motion, its prior before any observation, and the number of components of its belief."""

    motion: Motion
    prior: Belief  # its time is not used
    components: int = 8
    # seconds after the last instant, after which the belief restarts at the prior
    expires_after: float = math.inf
    # the model in each of its modes, none if it has one only, and the mean time that a mode lasts, seconds
    modes: tuple[StateModel, ...] = ()
    mode_time: float = math.inf


@dataclass(frozen=True, eq=False)
class PriorChange:
    """A stated belief that replaces the current one or multiplies it, over the coordinates `axes` or all of them."""

    mixture: Belief
    mode: Literal["replace", "product"] = "replace"
    axes: tuple[int, ...] | None = None

    def states_all(self, dimension: int) -> bool:
        """Whether it states all coordinates of a state."""
        return self.axes is None or len(self.axes) == dimension

    def replaces_all(self, dimension: int) -> bool:
        """Whether nothing before it counts."""
        return self.mode == "replace" and self.states_all(dimension)

    def whole(self) -> GaussianMixture:
        """The stated belief in the order of the state's coordinates, a batch of one; it states them all."""
        stated = self.mixture.mixture()
        return stated if self.axes is None else stated.marginal(np.argsort(self.axes).tolist())


class Instant(msgspec.Struct, frozen=True, eq=False):
    """Readings, prior and control of one entity at one time, with the labels of their events."""

    time: float
    readings: tuple[Reading, ...] = ()
    prior: PriorChange | None = None
    labels: tuple[int, ...] = ()
    control: ControlReading | None = None

    @property
    def informs(self) -> bool:
        """Whether there is a reading or a prior; a control alone has no information about the state at its time."""
        return bool(self.readings) or self.prior is not None


class Earlier(msgspec.Struct, frozen=True, eq=False):
    """The instants of an entity before the current one that count, see `recovery.history`.

    Attributes:
        number: of their times; one at the current time does not count.
        read: returns them in order of time, or None if one of them cannot be read any more.
        before: returns the belief before the first of them; None if it was the model's prior.
    """

    number: int
    read: Callable[[], Sequence[Instant] | None]
    before: Callable[[], Belief | None] = lambda: None


class Step(msgspec.Struct, frozen=True, eq=False):
    """The next instant of an entity, with its model and its belief; None if it has no belief yet.

    `earlier` has all instants before it, for a joint posterior of all readings; None if they are not kept.
    """

    belief: Belief | None
    model: StateModel
    instant: Instant
    earlier: Earlier | None = None


class Event(msgspec.Struct, frozen=True, eq=False):
    """An entry of a log: a reading, a prior or a control of one entity. The caller may use `label`."""

    entity: str
    time: float
    reading: Reading | None = None
    prior: PriorChange | None = None
    label: int = -1
    control: ControlReading | None = None


def instants(events: Iterable[Event]) -> list[Instant]:
    """Group the events of one entity by time, in order of time.

    At one time, priors come before readings, and a control comes last, because it holds from its time on. Readings are
    sorted by content, so the result does not depend on their order of arrival. Priors are applied in the given order,
    so the last one has the last effect.
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


def stacked(beliefs: Sequence[Belief]) -> GaussianMixture:
    """Stack beliefs with any number of components into one batch, float64."""
    most, size = max(len(b.weights) for b in beliefs), beliefs[0].means.shape[1]
    weights = np.zeros((len(beliefs), most))
    means = np.zeros((len(beliefs), most, size))
    covariances = np.tile(np.eye(size), (len(beliefs), most, 1, 1))
    for row, belief in enumerate(beliefs):
        count = len(belief.weights)
        weights[row, :count], means[row, :count] = belief.weights, belief.means
        covariances[row, :count] = belief.covariances
    parts = (torch.from_numpy(part) for part in (weights, means, covariances))
    return GaussianMixture.from_weights(*parts)


def single_belief(mixture: GaussianMixture, time: float, errors: AccumulatedErrors) -> Belief:
    """Return the belief of a batch of one."""
    present = mixture.present[0]
    weights = mixture.log_weights[0, present].exp().numpy()
    return Belief(
        time,
        weights / weights.sum(),
        mixture.means[0, present].numpy(),
        mixture.covariances[0, present].numpy(),
        error=errors.single()[0],
    )


def beliefs_of(
    mixture: GaussianMixture, times: Sequence[float], errors: Sequence[AccumulatedError]
) -> list[Belief]:
    """Return the beliefs of a batch that was reduced: its used components come first in each row."""
    counts, means, covariances = (
        mixture.present.sum(1).tolist(),
        mixture.means.numpy(),
        mixture.covariances.numpy(),
    )
    weights, found = mixture.log_weights.exp().numpy(), []
    for row, (time, error, count) in enumerate(zip(times, errors, counts, strict=True)):
        share = weights[row, :count]
        parts = share / share.sum(), means[row, :count].copy(), covariances[row, :count].copy()
        found.append(Belief(time, *parts, error=error))
    return found


def with_axes(old: GaussianMixture, new: GaussianMixture, axes: tuple[int, ...]) -> GaussianMixture:
    """Replace the coordinates `axes` of `old` by `new`, independent of the other coordinates."""
    rest = [axis for axis in range(old.dimension) if axis not in axes]
    kept = old.marginal(rest)
    count = (old.components, new.components)
    means = torch.zeros(1, *count, old.dimension, dtype=torch.float64)
    covariances = torch.zeros(1, *count, old.dimension, old.dimension, dtype=torch.float64)
    means[..., rest], means[..., list(axes)] = kept.means[:, :, None], new.means[:, None]
    covariances[..., np.ix_(rest, rest)[0], np.ix_(rest, rest)[1]] = kept.covariances[:, :, None]
    covariances[..., np.ix_(axes, axes)[0], np.ix_(axes, axes)[1]] = new.covariances[:, None]
    log_weights = kept.log_weights[:, :, None] + new.log_weights[:, None]
    return GaussianMixture(log_weights.flatten(1, 2), means.flatten(1, 2), covariances.flatten(1, 2))
