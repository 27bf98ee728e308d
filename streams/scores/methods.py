"""Runs our filter and classical filters on the same instants, motion and sensors, and scores them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import expanded
from beliefstream.inference.tracking.events import Instant
from beliefstream.inference.tracking.filtering import Outcome, Step
from beliefstream.inference.tracking.hidden import state_part
from beliefstream.inference.tracking.prediction import predict
from beliefstream.streams.scores.filters import (
    ExtendedKalmanFilter,
    IteratedKalmanFilter,
    ParticleFilter,
    RegularisedParticleFilter,
)
from beliefstream.streams.scores.filters.gaussian import GaussianFilter, with_noise
from beliefstream.streams.scores.measures import Scores, batches
from beliefstream.streams.scores.tracks import Track

OURS = "Beliefstream"
PARTICLES = 10_000

Tick = Callable[[], None]
ClassicalFilter = GaussianFilter | ParticleFilter


class ScoredMethod(NamedTuple):
    """A classical filter of one entity: its name, and its constructor."""

    name: str
    begin: Callable[[GaussianMixture], ClassicalFilter]


def classical(particles: int = PARTICLES, seed: int = 0) -> tuple[ScoredMethod, ...]:
    """Return the classical filters to compare with ours.

    They are extended Kalman filters, plain and iterated, a regularised particle filter, which alone models the sensors'
    outliers, and an extended Kalman filter with a chi-square gate against outliers. The gated filter is the best one if
    many outliers arrive at once, but a wrong belief rejects the reports that would correct it.

    Args:
        particles: number of particles, at least 2.
        seed: seed of the particle filter's random numbers.
    """

    def begin(prior: GaussianMixture) -> ClassicalFilter:
        return RegularisedParticleFilter(prior, particles, torch.Generator().manual_seed(seed))

    return (
        ScoredMethod("extended Kalman", lambda prior: ExtendedKalmanFilter(*prior.moments(), gate=None)),
        ScoredMethod("iterated Kalman", lambda prior: IteratedKalmanFilter(*prior.moments())),
        ScoredMethod(f"particles {particles}", begin),
        ScoredMethod("gated Kalman", lambda prior: ExtendedKalmanFilter(*prior.moments())),
    )


def run(method: ScoredMethod, track: Track, scores: Scores, tick: Tick) -> float:
    """Run a classical filter on one entity, and return the time for predictions and updates in seconds."""
    belief = method.begin(track.model.prior.mixture())
    motion, seconds, before = track.model.motion, 0.0, track.instants[0].time
    for number, instant in enumerate(track.instants):
        began = time.perf_counter()
        for interval, control in track.controls.between(before, instant.time):
            belief.move(motion, torch.tensor([interval], dtype=torch.float64), control)
        seconds, before = seconds + time.perf_counter() - began, instant.time
        case = track.cases.get(number)
        if case is not None and case.noise is not None:
            scores.add(track.entity, instant.time, belief.density(track.axes, case.noise), case.target)
        began = time.perf_counter()
        belief.update(encode([list(expanded(instant.readings))], motion.dimension))
        seconds += time.perf_counter() - began
        if case is not None and case.noise is None:
            scores.add(track.entity, instant.time, belief.density(track.axes, case.noise), case.target)
        tick()
    return seconds


def score_ours(tracks: Iterable[Track], outcomes: Mapping[str, Sequence[Outcome]], scores: Scores) -> None:
    """Score our posteriors; `outcomes` has one for each instant of each entity."""
    cases: dict[int, list[tuple[Track, int, Step]]] = defaultdict(list)
    for track in tracks:
        own = outcomes[track.entity]
        for number, case in track.cases.items():
            # a report is compared with the belief before it, the truth with the belief after the instant
            belief = own[number].belief if case.noise is None else own[number - 1].belief
            step = Step(state_part(belief), track.model, Instant(track.instants[number].time))
            cases[len(belief.weights)].append((track, number, step))
    for alike in cases.values():
        for part in batches(len(alike)):
            _score_some(alike[part], scores)


def _score_some(some: Sequence[tuple[Track, int, Step]], scores: Scores) -> None:
    moved = predict([step for _, _, step in some])
    axes = some[0][0].axes
    chosen = [track.cases[number] for track, number, _ in some]
    seen = moved.marginal(axes)
    if chosen[0].noise is not None:
        seen = with_noise(seen, torch.cat([case.noise for case in chosen if case.noise is not None]))
    scores.add_batch(
        [track.entity for track, _, _ in some],
        [track.instants[number].time for track, number, _ in some],
        seen,
        torch.cat([case.target for case in chosen]),
    )
