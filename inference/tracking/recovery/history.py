"""The instants of an entity that are kept, so that all their reports can be taken together.

Of an entity at rest they begin with the prior (`joint_posterior`). Of one that moves they begin with the first report
after a silence, if it bends across a belief that has become wide (`refiltering`). Instants are numbered from
there. One that has a larger number than `MOST_INSTANTS` has no use for those before it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.tracking.events import Array, Belief, Earlier, Instant, Step
from beliefstream.inference.tracking.outcomes import METHODS, Outcome
from beliefstream.inference.tracking.prediction import predict, without_expired
from beliefstream.inference.update.result import Method

MOST_INSTANTS = 64  # that are taken together; an entity with more goes on one by one
NONE = MOST_INSTANTS + 1  # number of an instant that follows none which counts
GROWN = 16.0  # factor on the variances, on average, by which the motion widens a belief in a silence
WIDER = (
    4.0  # factor on the variance of some coordinate that is left after the first report; less is no silence
)
NARROW = {METHODS[method] for method in (Method.KALMAN, Method.LINEARISED)} | {"prior", "predicted"}


def number_of(step: Step, outcome: Outcome, last: int, is_same_time: bool = False) -> int:
    """Return the number of an instant with that outcome, after one with the number `last`, maybe at the same time."""
    step, change, motion = without_expired(step), step.instant.prior, step.model.motion
    following = last if is_same_time else min(last, MOST_INSTANTS) + 1
    if motion.is_static:
        is_replaced = change is not None and change.replaces_all(motion.dimension)
        return 1 if is_replaced or step.belief is None else following
    if step.belief is None or change is not None or step.instant.control is not None or step.model.modes:
        return NONE
    is_bent = outcome.method not in NARROW
    return 1 if is_bent and _has_grown(step, step.belief, outcome.belief) else following


def _has_grown(step: Step, before: Belief, after: Belief) -> bool:
    """Whether the belief was much wider at the instant than before."""
    size = step.model.motion.dimension
    if not (_variances(after)[:size] > WIDER * _variances(before)[:size]).any():
        return False
    growth = _log_volume(predict([step]), size) - _log_volume(before.mixture(), size)
    return growth > 0.5 * size * math.log(GROWN)


def _variances(belief: Belief) -> Array:
    squares = (belief.means - belief.weights @ belief.means) ** 2
    variances: Array = belief.weights @ (belief.covariances.diagonal(0, 1, 2) + squares)
    return variances


def _log_volume(mixture: GaussianMixture, size: int) -> float:
    return 0.5 * float(mixture.moments()[1][:, :size, :size].logdet())


class _Entry(NamedTuple):
    """An instant with its number, and the belief before it if that is 1."""

    instant: Instant
    number: int
    before: Belief | None


class History:
    """Instants of one entity in order of time, of which none is forgotten."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def earlier(self, time: float) -> Earlier | None:
        """Return those that count for an instant at that time, if any."""
        if not self._entries or (number := self._entries[-1].number) > MOST_INSTANTS:
            return None
        entries, first = self._entries, len(self._entries) - 1
        while entries[first].number != 1:
            first -= 1
        while first and entries[first - 1].instant.time == entries[first].instant.time:
            first -= 1
        kept = entries[first:]
        return Earlier(
            number - (kept[-1].instant.time == time),
            lambda: [entry.instant for entry in kept],
            lambda: kept[0].before,
        )

    def add(self, step: Step, outcome: Outcome) -> None:
        """Add the instant of a step with its outcome."""
        last, is_same_time = MOST_INSTANTS, False
        if self._entries:
            newest = self._entries[-1]
            last, is_same_time = newest.number, newest.instant.time == step.instant.time
        number = number_of(step, outcome, last, is_same_time)
        self._entries.append(_Entry(step.instant, number, step.belief if number == 1 else None))

    def rewind(self, time: float) -> None:
        """Forget the instants from that time on."""
        while self._entries and self._entries[-1].instant.time >= time:
            self._entries.pop()
