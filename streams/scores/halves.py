"""Check by halves: do the sensors of one half report what the belief of the other half alone predicts?

A filter predicts its next report well even where it is too certain, since the belief has absorbed the errors that last.
Sensors of other devices do not share these errors, so that their reports show how far off the belief is, without a
truth. Each half's reports are scored as sensor health scores them: standard normal if the definitions are right
(`inference.tracking.health.fits`). That is cross-validation (M. Stone, "Cross-validatory choice and assessment of
statistical predictions", Journal of the Royal Statistical Society B 36, 1974).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.tracking.health.columns import Fit
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import ControlSensor, Observation, Sensor
from beliefstream.schemas.sensors.base import Shared
from beliefstream.streams.scores.evidence import Array, Definitions, Recorded, log_of

TOO_CERTAIN = 1.5  # ratio above which beliefs are
MEDIAN = 0.6745  # of the size of a standard normal number


class _Moment(NamedTuple):
    """The instants of one time: of the sensors that a filter applies, and of the others."""

    own: Instant | None
    other: Instant | None


@dataclass(eq=False)
class _Half:
    """The filter of one entity with one half of the sensors."""

    model: StateModel
    moments: list[_Moment]
    belief: Belief | None = None


def ratio_by_halves(definitions: Definitions, recorded: Recorded, updater: Updater) -> float | None:
    """Return how far each half's reports are from the prediction of the other half, as a multiple of what it states.

    It is a ratio of medians, so that few outliers do not change it: near 1 if beliefs are as certain as they should be.
    None: fewer than two devices reported, or no report could be scored. It is not a number if a belief was not.

    Raises:
        Unusable: the definitions contradict each other, or an observation does not fit them.
        ValueError: an entity has no model.
    """
    sides = halves(definitions.sensors, recorded.observations)
    if sides is None:
        return None
    logs = [log_of([definitions], Recorded(side, recorded.split)) for side in sides]
    filters = []
    for log, other in (logs, logs[::-1]):
        instants, others = log.timelines(), other.timelines()
        for entity, own in instants.items():
            filters.append(_Half(log.model(entity).state, list(_moments(own, others.get(entity, [])))))
    scores = np.concatenate([np.zeros(0), *_scores(filters, updater)])
    return float(np.median(np.abs(scores))) / MEDIAN if len(scores) else None


def halves(
    sensors: Sequence[Sensor], observations: Sequence[Observation]
) -> tuple[list[Observation], list[Observation]] | None:
    """Part observations by the devices of their sensors, with about as many in each; both parts have all controls.

    None: fewer than two devices reported.
    """
    owners = {
        each.sensor: each.owner if isinstance(each, Shared) else each.sensor
        for each in sensors
        if not isinstance(each, ControlSensor)
    }
    counts = Counter(owners[each.sensor] for each in observations if each.sensor in owners)
    if len(counts) < 2:
        return None
    sizes, side = [0, 0], dict[str, int]()
    for owner, count in counts.most_common():
        side[owner] = sizes.index(min(sizes))
        sizes[side[owner]] += count

    def part(number: int) -> list[Observation]:
        return [each for each in observations if side.get(owners.get(each.sensor, ""), number) == number]

    return part(0), part(1)


def _moments(own: Sequence[Instant], other: Sequence[Instant]) -> Iterator[_Moment]:
    mine = {each.time: each for each in own}
    others = {each.time: Instant(each.time, each.readings) for each in other if each.readings}
    for time in sorted(mine.keys() | others.keys()):
        yield _Moment(mine.get(time), others.get(time))


def _scores(filters: Sequence[_Half], updater: Updater) -> Iterator[Array]:
    """Run the filters, and yield the normal scores of the reports that they do not apply."""
    for moments in zip_longest(*(each.moments for each in filters)):
        happening = [each for each in zip(filters, moments, strict=True) if each[1] is not None]
        tested = [
            Step(half.belief, half.model, moment.other)
            for half, moment in happening
            if moment.other is not None and half.belief is not None
        ]
        applied = [(half, moment.own) for half, moment in happening if moment.own is not None]
        steps = [Step(half.belief, half.model, own) for half, own in applied]
        for outcome in advance(tested, updater, with_fits=True) if tested else ():
            assert outcome.fits is not None
            yield outcome.fits[outcome.fits[:, Fit.SHARE] > 0, Fit.SCORE]
        for (half, _), outcome in zip(applied, advance(steps, updater) if steps else (), strict=True):
            half.belief = outcome.belief
