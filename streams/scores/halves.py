"""Evidence by halves: the log density of what one half of the sensors reports under the belief of the other half alone.

A filter predicts its own next report well even where it is wrong, since the belief has absorbed an error that lasts.
Other sensors do not have that error, so their reports show how far the belief is off: no truth is needed. The check of
a forecast by what it was not fitted to is cross-validation (M. Stone, "Cross-validatory choice and assessment of
statistical predictions", Journal of the Royal Statistical Society B 36, 1974).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import ControlSensor, Sensor
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.scores.evidence import Array, Definitions, Recorded, log_of


class _Moment(NamedTuple):
    """What happens to an entity at one time: its own half's instant, and that of the other half."""

    own: Instant | None
    other: Instant | None


class _Half:
    """The filter of one half of the sensors for one entity."""

    def __init__(self, number: int, model: StateModel, own: list[Instant], other: list[Instant]) -> None:
        self.number, self.model = number, model
        self.belief: Belief | None = None
        self.moments = list(_merged(own, [each for each in other if each.readings]))


def evidence_by_halves(tried: Sequence[Definitions], recorded: Recorded, updater: Updater) -> Array:
    """Return the log density of each half's reports under the other half, on both parts, ``(C, 2)``, nats.

    Raises:
        Unusable: the definitions contradict each other, or an observation does not fit them.
        ValueError: an entity has no model, or there are fewer than two sensors that can be parted.
    """
    sides = halves(tried[0].sensors, recorded)
    logs = [log_of(tried, recorded._replace(observations=side)) for side in sides]
    filters = list(_filters(*logs))
    found = np.zeros((len(tried), 2))
    for moments in zip_longest(*(each.moments for each in filters)):
        steps, owners = [], []
        for half, moment in zip(filters, moments, strict=True):
            if moment is None:
                continue
            if moment.other is not None and half.belief is not None:
                readings = Instant(moment.other.time, moment.other.readings)
                steps.append(Step(half.belief, half.model, readings))
                owners.append((half, False))
            if moment.own is not None:
                steps.append(Step(half.belief, half.model, moment.own))
                owners.append((half, True))
        for (half, is_own), step, outcome in zip(owners, steps, advance(steps, updater), strict=True):
            if is_own:
                half.belief = outcome.belief
            else:
                part = int(step.instant.time >= recorded.split)
                found[half.number, part] += outcome.log_evidence
    found[~np.isfinite(found).all(1)] = -np.inf
    return found


def halves(sensors: Sequence[Sensor], recorded: Recorded) -> tuple[list, list]:
    """Part the observations by devices, so that each half has nearly as many; both have all controls.

    Raises:
        ValueError: there are fewer than two devices.
    """
    owners = {each.sensor: getattr(each, "device", None) or each.sensor for each in sensors}
    controls = {each.sensor for each in sensors if isinstance(each, ControlSensor)}
    counts = Counter(owners[each.sensor] for each in recorded.observations if each.sensor not in controls)
    if len(counts) < 2:
        raise ValueError(f"a check by halves needs two devices, and {', '.join(counts) or 'none'} reported")
    sizes, side = [0, 0], {}
    for owner, count in counts.most_common():
        side[owner] = sizes.index(min(sizes))
        sizes[side[owner]] += count
    parts: tuple[list, list] = [], []
    for each in recorded.observations:
        for number, part in enumerate(parts):
            if each.sensor in controls or side[owners[each.sensor]] == number:
                part.append(each)
    return parts


def _filters(first: Log, second: Log) -> Iterator[_Half]:
    timelines = first.timelines(), second.timelines()
    for own, other, log in ((0, 1, first), (1, 0, second)):
        for entity, instants in timelines[own].items():
            number = int(entity.partition(":")[0])
            yield _Half(number, log.model(entity).state, instants, timelines[other].get(entity, []))


def _merged(own: list[Instant], other: list[Instant]) -> Iterator[_Moment]:
    mine, theirs = {each.time: each for each in own}, {each.time: each for each in other}
    for time in sorted(mine.keys() | theirs.keys()):
        yield _Moment(mine.get(time), theirs.get(time))
