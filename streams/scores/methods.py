"""Runs our filter and classical filters on the same instants, motion and sensors, and scores them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Control, Motion
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import expanded
from beliefstream.inference.tracking.events import Instant
from beliefstream.inference.tracking.filtering import Outcome, Step
from beliefstream.inference.tracking.prediction import predict
from beliefstream.streams.scores.filters import (
    ExtendedKalmanFilter,
    IteratedKalmanFilter,
    ParticleFilter,
    RegularisedParticleFilter,
)
from beliefstream.streams.scores.measures import Estimate, Mixtures, Particles, Scores, batches
from beliefstream.streams.scores.tracks import Case, Track

Tick = Callable[[], None]


class ClassicalFilter(Protocol):
    """Interface of a classical filter of one entity."""

    def move(self, motion: Motion, interval: Tensor, control: Control | None = None) -> None: ...

    def update(self, observations: Observations) -> object: ...


def _noisier(mixture: GaussianMixture, noise: Tensor) -> GaussianMixture:
    """Return the distribution of the mixture plus Gaussian noise of covariance ``(B, d, d)``."""
    return GaussianMixture(mixture.log_weights, mixture.means, mixture.covariances + noise[:, None])


class ScoredMethod:
    """A classical filter with its name, its constructor and its belief as an `Estimate`."""

    def __init__(self, name: str, begin: Callable[[GaussianMixture], ClassicalFilter]) -> None:
        self.name, self.begin = name, begin

    def estimate(self, belief: ClassicalFilter, axes: list[int], case: Case) -> Estimate:
        """Return the belief over the scored coordinates, plus the noise of the report if one is predicted."""
        if isinstance(belief, ParticleFilter):
            return Particles(belief, axes, case.noise)
        assert isinstance(belief, ExtendedKalmanFilter | IteratedKalmanFilter)
        mixture = belief.mixture().marginal(axes)
        return Mixtures(mixture if case.noise is None else _noisier(mixture, case.noise))


PARTICLES = 10_000


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


OURS = "Beliefstream"


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
            scores.add(track.entity, instant.time, method.estimate(belief, track.axes, case), case.target)
        began = time.perf_counter()
        belief.update(encode([list(expanded(instant.readings))], motion.dimension))
        seconds += time.perf_counter() - began
        if case is not None and case.noise is None:
            scores.add(track.entity, instant.time, method.estimate(belief, track.axes, case), case.target)
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
            step = Step(belief, track.model, Instant(track.instants[number].time))
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
        seen = _noisier(seen, torch.cat([case.noise for case in chosen if case.noise is not None]))
    scores.add_batch(
        [track.entity for track, _, _ in some],
        [track.instants[number].time for track, number, _ in some],
        Mixtures(seen),
        torch.cat([case.target for case in chosen]),
    )
