"""Check by halves: are the beliefs of two halves of the sensors as far apart as they may be?

A filter predicts its next report well even where it is too certain, since the belief has absorbed the errors that last.
Two filters with disjoint sensors do not share these errors. So the difference of their means shows how certain they
should be, without a truth. They do share the motion's noise, so their errors correlate: with the errors e₁ and e₂ of
the halves, ``Cov(m₁ − m₂) = P₁ + P₂ − C − Cᵀ`` where ``C = E e₁ e₂ᵀ`` follows

    C ← F₁ C F₂ᵀ + Q,    C ← (I − K₁H₁) C (I − K₂H₂)ᵀ

(Y. Bar-Shalom, "On the track-to-track correlation problem", IEEE Transactions on Automatic Control 26(2), 1981). For a
mixture ``I − KH`` is ``P⁺ (P⁻)⁻¹`` of its moments, and F is that of the motion at its mean.

There is no check of a motion whose noise has modes: what the halves share depends on the mode, which each half knows
only in part. Of entities simulated with four modes, true definitions had ratios of 0.3 to 0.5.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple

import msgspec
import numpy as np

from beliefstream.inference.tracking.events import NO_HIDDEN, Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.tracking.hidden import fading, prepared, state_part
from beliefstream.inference.tracking.prediction import predict
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import ControlSensor, Observation
from beliefstream.streams.fitting.evidence import Array, Definitions, Recorded, log_of
from beliefstream.streams.fitting.residuals import deviation_of

TOO_CERTAIN = 1.5  # ratio above which beliefs are
WAYS = 8  # ways to part the sensors that are tried
LEAST_APART = 0.05  # of P₁ + P₂, the smallest variance of a difference that is scored
SMALL = 1e-3  # deviations, of the differences that give F


@dataclass(eq=False)
class _Half:
    """The filter of one entity with one half of the sensors."""

    model: StateModel
    instants: dict[float, Instant]
    belief: Belief

    def step(self, time: float) -> Step:
        return Step(self.belief, self.model, self.instants.get(time, Instant(time)))


@dataclass(eq=False)
class _Pair:
    """Two filters of one entity, and the covariance of their errors."""

    halves: tuple[_Half, _Half]
    cross: Array  # (D + m₁, D + m₂)
    scores: list[Array] = field(default_factory=list)  # of differences
    volumes: list[float] = field(default_factory=list)  # log determinants of the less certain half

    @property
    def times(self) -> list[float]:
        return sorted(self.halves[0].instants.keys() | self.halves[1].instants.keys())


class _Move(NamedTuple):
    """How the motion moves the error of a mean, linearly, and the noise that it adds to the state."""

    matrix: Array  # (D + m, D + m) from the coordinates before a step to those after it
    noise: Array  # (D, D)


def ratio_by_halves(definitions: Definitions, recorded: Recorded, updater: Updater) -> float | None:
    """Return how far apart the means of two halves of the sensors are, as a multiple of what their beliefs say.

    It is a ratio of medians, so that few outliers do not change it: near 1 if beliefs are as certain as they should be.
    Of some ways to part the sensors, it is of the one whose less certain half is most certain: a half that cannot
    locate the entity shows little. None: fewer than two devices reported, no difference could be scored, or the noise
    of a motion has modes.

    Raises:
        Unusable: the definitions contradict each other, or an observation does not fit them.
        ValueError: an entity has no model.
    """
    if any(model.modes for model in definitions.models):
        return None
    found: list[tuple[float, float]] = []
    for pairs in _run(definitions, recorded, updater):
        scores = np.concatenate([np.zeros(0), *(each for pair in pairs for each in pair.scores)])
        if np.isnan(scores).any():
            return math.nan
        if len(scores):
            volume = float(np.mean([each for pair in pairs for each in pair.volumes]))
            found.append((volume, deviation_of(scores)))
    return min(found)[1] if found else None


def _run(definitions: Definitions, recorded: Recorded, updater: Updater) -> list[list[_Pair]]:
    """Run the filters of all ways to part the sensors at once; the pairs of each."""
    ways = []
    for sides in parted(definitions, recorded.observations):
        logs = [log_of([definitions], Recorded(side, recorded.split)) for side in sides]
        first, second = (log.timelines() for log in logs)
        entities = first.keys() | second.keys()
        models = {entity: logs[entity not in first].model(entity).state for entity in entities}
        ways.append(
            [_pair(models[each], first.get(each, []), second.get(each, [])) for each in sorted(entities)]
        )
    pairs = [pair for way in ways for pair in way]
    for times in zip_longest(*(pair.times for pair in pairs)):
        now = [(pair, time) for pair, time in zip(pairs, times, strict=True) if time is not None]
        _advance([pair for pair, _ in now], [time for _, time in now], updater)
    return ways


def parted(
    definitions: Definitions, observations: Sequence[Observation]
) -> list[tuple[list[Observation], list[Observation]]]:
    """Part observations by the devices of their sensors, about as many in each half, in up to `WAYS` ways.

    Both halves have all controls. There is no way if fewer than two devices reported.
    """
    controlling = {each.sensor for each in definitions.sensors if isinstance(each, ControlSensor)}
    owners = {name: owner for name, owner in definitions.owners().items() if name not in controlling}
    counts = Counter(owners[each.sensor] for each in observations if each.sensor in owners)
    if len(counts) < 2:
        return []
    random, ways = np.random.default_rng(0), set[frozenset[str]]()
    for _ in range(WAYS):
        order = sorted(counts, key=lambda owner: -counts[owner] * random.uniform(0.5, 1.0))
        sizes, side = [0, 0], dict[str, int]()
        for owner in order:
            side[owner] = sizes.index(min(sizes))
            sizes[side[owner]] += counts[owner]
        ways.add(frozenset(owner for owner in order if side[owner] == side[min(order)]))
    controls = [each for each in observations if each.sensor not in owners]

    def part(way: frozenset[str], inside: bool) -> list[Observation]:
        own = [
            each for each in observations if each.sensor in owners and (owners[each.sensor] in way) == inside
        ]
        return sorted(own + controls, key=lambda each: each.time)

    return [(part(way, True), part(way, False)) for way in sorted(ways, key=sorted)]


def _pair(model: StateModel, first: Sequence[Instant], second: Sequence[Instant]) -> _Pair:
    begin = min(each.time for each in (*first, *second))
    belief = msgspec.structs.replace(model.prior, time=begin)
    one, other = (_Half(model, {each.time: each for each in side}, belief) for side in (first, second))
    return _Pair((one, other), belief.mixture().moments()[1][0].numpy())


def _advance(pairs: Sequence[_Pair], times: Sequence[float], updater: Updater) -> None:
    """Advance both filters of each pair to a time of it, and score the difference of their means."""
    halves = [half for pair in pairs for half in pair.halves]
    given = [half.step(time) for pair, time in zip(pairs, times, strict=True) for half in pair.halves]
    steps = [prepared(step) for step in given]
    moves, predicted = _moves(halves, steps), _predicted(steps)
    for half, outcome in zip(halves, advance(given, updater), strict=True):
        half.belief = outcome.belief
    found = [_moments(half.belief) for half in halves]
    kept = [  # of the error: I − KH
        after @ np.linalg.pinv(before, hermitian=True) if step.instant.readings else np.eye(len(before))
        for before, (_, after), step in zip(predicted, found, steps, strict=True)
    ]
    for place, pair in zip(range(0, len(halves), 2), pairs, strict=True):
        (one, noise), (other, more) = moves[place : place + 2]
        pair.cross = one @ pair.cross @ other.T
        size = len(noise)
        pair.cross[:size, :size] += (noise + more) / 2
        pair.cross = kept[place] @ pair.cross @ kept[place + 1].T
        _score(pair, found[place], found[place + 1], size)


def _moments(belief: Belief) -> tuple[Array, Array]:
    """Mean ``(D,)`` and covariance ``(D, D)`` of a belief."""
    mean, covariance = belief.mixture().moments()
    return mean[0].numpy(), covariance[0].numpy()


def _predicted(steps: Sequence[Step]) -> list[Array]:
    """The covariance ``(D + m, D + m)`` of the belief of each step, predicted to its instant."""
    groups: dict[int, list[int]] = defaultdict(list)
    for place, step in enumerate(steps):
        assert step.belief is not None
        groups[step.belief.means.shape[1]].append(place)
    found: dict[int, Array] = {}
    for places in groups.values():
        covariances = predict([steps[place] for place in places]).moments()[1]
        found |= zip(places, covariances.numpy(), strict=True)
    return [found[place] for place in range(len(steps))]


def _moves(halves: Sequence[_Half], steps: Sequence[Step]) -> list[_Move]:
    """How the motion moves errors, by differences of predicted points around the mean."""
    points, sizes = [], []
    for half, step in zip(halves, steps, strict=True):
        mean, covariance = _moments(state_part(half.belief))
        deviations = np.sqrt(np.diagonal(covariance))
        size = SMALL * np.where(deviations > 0, deviations, 1.0)
        count = len(mean) + 1
        means = mean + np.concatenate([np.diag(size), np.zeros((1, len(mean)))])
        belief = msgspec.structs.replace(
            half.belief, weights=np.full(count, 1 / count), means=means, hidden=NO_HIDDEN, modes=(),
            covariances=np.zeros((count, len(mean), len(mean))),
        )  # fmt: skip
        points.append(Step(belief, half.model, Instant(step.instant.time)))
        sizes.append(size)
    moved = predict(points)
    linear = (moved.means[:, :-1] - moved.means[:, -1:]).mT.numpy() / np.array(sizes)[:, None]
    noises = moved.covariances[:, -1].numpy()
    return [
        _Move(_with_hidden(half.belief, step, each), noise)
        for half, step, each, noise in zip(halves, steps, linear, noises, strict=True)
    ]


def _with_hidden(before: Belief, step: Step, linear: Array) -> Array:
    """The matrix of a motion with hidden coordinates, which fade, begin and end."""
    assert step.belief is not None
    new, size = step.belief.hidden.errors, len(linear)
    known = {error: place for place, error in enumerate(before.hidden.errors)}
    matrix = np.zeros((size + len(new), size + len(known)))
    matrix[:size, :size] = linear
    if new:
        factors = fading([step.belief], np.array([step.instant.time - before.time]))[0][0]
        for place, error in enumerate(new):
            if error in known:
                matrix[size + place, size + known[error]] = factors[place]
    return matrix


def _score(pair: _Pair, one: tuple[Array, Array], other: tuple[Array, Array], size: int) -> None:
    """Score the difference of the states' means along the axes where the halves are independent enough."""
    off = one[0][:size] - other[0][:size]
    both = one[1][:size, :size] + other[1][:size, :size]
    cross = pair.cross[:size, :size]
    spread = both - cross - cross.T
    if not (np.isfinite(spread).all() and np.isfinite(off).all()):
        pair.scores.append(np.array([math.nan]))
        return
    scale, axes = np.linalg.eigh(both)
    white = axes / np.sqrt(np.maximum(scale, np.finfo(float).tiny))
    shares, turned = np.linalg.eigh(white.T @ spread @ white)
    scores = (turned.T @ white.T @ off) / np.sqrt(np.maximum(shares, LEAST_APART))
    pair.scores.append(scores[shares > LEAST_APART])
    pair.volumes.append(max(float(np.linalg.slogdet(each[1][:size, :size])[1]) for each in (one, other)))
