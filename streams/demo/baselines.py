"""Baselines on a scenario's observations: `python -m beliefstream.streams.demo.baselines SCENARIO FILE`.

It runs in a separate process at the lowest priority, so that it uses only the time that the stream leaves over. All
baselines have the worker's models, priors and sensors. The particle filter also models the sensors' outliers; the
extended Kalman filters (EKF) do not. None has a gate: a filter that is wrong once would reject what could correct it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.evaluation.baselines import (
    ExtendedKalmanFilter,
    IteratedKalmanFilter,
    ParticleFilter,
    RegularisedParticleFilter,
)
from beliefstream.inference.evaluation.scores import mixture_level
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.motion import transition as linear_transition
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.tracking.events import Event, Instant, StateModel, instants
from beliefstream.schemas import Model, Observation, Sensor
from beliefstream.streams.definitions.conversion import reading_of, sensor_over, state_model
from beliefstream.streams.demo.baseline_answers import Answers, save
from beliefstream.streams.demo.scenario import MOWER, Scenario, Script, write

Array = NDArray[np.float64]

EKF, ITERATED, PARTICLES = "EKF", "iterated EKF", "10 000 particles"
PARTICLE_COUNT = 10_000
# Points to estimate a truth's level: (count + 1) * 0.9 is whole, so that correct beliefs have a 90 % region that holds
# the truth with probability 0.9 in spite of the small number.
LEVEL_POINTS = 19
MIXTURE_LEVEL_POINTS = 509


@dataclass(frozen=True, eq=False)
class Round:
    """The next instant of every entity that has one: rows of B; the others do not move."""

    transition: Tensor  # (B, D, D)
    noise: Tensor  # (B, D, D)
    observations: Observations
    active: Tensor  # (B,) bool


@dataclass(frozen=True, eq=False)
class EntityGroup:
    """Entities with one model and their instants of observation."""

    model: StateModel
    axes: tuple[int, int]  # indices of x and y in the state
    timelines: dict[str, list[Instant]]
    truth: Callable[[str, Sequence[float]], Array]

    @cached_property
    def rounds(self) -> list[Round]:
        """Return the r-th instants of all entities together, r = 0, 1, ..."""
        return list(_rounds(self))


def group(
    model: Model,
    sensors: Sequence[Sensor],
    observations: Sequence[Observation],
    truth: Callable[[str, Sequence[float]], Array],
) -> EntityGroup:
    """Build the group of the observed entities, with their instants."""
    names = model.coordinate_names
    measured = {sensor.sensor: sensor_over(sensor, names) for sensor in sensors}
    events: dict[str, list[Event]] = {}
    for each in observations:
        event = Event(each.entity, each.time, reading_of(each, measured[each.sensor]))
        events.setdefault(each.entity, []).append(event)
    timelines = {entity: instants(log) for entity, log in events.items()}
    return EntityGroup(state_model(model), (names.index("x"), names.index("y")), timelines, truth)


def instants_of(some: EntityGroup) -> tuple[list[str], list[float]]:
    """Entity and time of every instant, in the order of `rounds`."""
    entities, times = [], []
    for round_ in range(max(map(len, some.timelines.values()), default=0)):
        for entity, timeline in some.timelines.items():
            if round_ < len(timeline):
                entities.append(entity)
                times.append(timeline[round_].time)
    return entities, times


def truths_of(some: EntityGroup) -> tuple[list[str], list[float], Tensor]:
    """Entity, time and true position (N, 2) of every instant, in the order of `rounds`."""
    entities, times = instants_of(some)
    truths = np.empty((len(times), 2))
    for entity in some.timelines:
        mine = [number for number, name in enumerate(entities) if name == entity]
        truths[mine] = some.truth(entity, [times[number] for number in mine])
    return entities, times, torch.as_tensor(truths)


def extended_kalman(some: EntityGroup) -> Answers:
    """Run the extended Kalman filter, one linearisation per observation, without a gate."""
    return _kalman(some, ExtendedKalmanFilter(*_prior(some).moments(), gate=None))


def iterated_kalman(some: EntityGroup) -> Answers:
    """Run the iterated extended Kalman filter without a gate: it searches for the mode of each posterior."""
    return _kalman(some, IteratedKalmanFilter(*_prior(some).moments()))


def _kalman(some: EntityGroup, belief: ExtendedKalmanFilter | IteratedKalmanFilter) -> Answers:
    kept = []
    for number, round_ in enumerate(some.rounds):
        if number:
            belief.predict(round_.transition, round_.noise)
        belief.update(round_.observations)
        kept.append(belief.mixture().marginal(some.axes).rows(round_.active))
    entities, times, truths = truths_of(some)
    return mixture_answers(entities, times, truths, concatenate(kept))


def mixture_answers(
    entities: Sequence[str], times: Sequence[float], truths: Tensor, beliefs: GaussianMixture
) -> Answers:
    """Compare N mixtures over the position with N true positions (N, 2)."""
    densities = beliefs.log_density(truths[:, None])[:, 0]
    parts = [torch.arange(begin, min(begin + 1024, len(times))) for begin in range(0, len(times), 1024)]
    levels = [mixture_level(beliefs.rows(rows), truths[rows], MIXTURE_LEVEL_POINTS) for rows in parts]
    mean = beliefs.moments()[0]
    return Answers(
        np.array(entities),
        np.array(times),
        mean.numpy(),
        truths.numpy(),
        densities.numpy(),
        torch.cat(levels).numpy(),
    )


def particles(some: EntityGroup, count: int = PARTICLE_COUNT, seed: int = 0) -> Answers:
    """Run the regularised particle filter."""
    belief = RegularisedParticleFilter(_prior(some), count, torch.Generator().manual_seed(seed))
    entities, times, truths = truths_of(some)
    scoring = torch.Generator().manual_seed(
        seed + 1
    )  # a separate one, so that scoring does not change the run
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for number, round_ in enumerate(some.rounds):
        if number:
            belief.predict(round_.transition, round_.noise)
        belief.update(round_.observations)
        active = int(round_.active.sum())
        truth = torch.zeros(len(round_.active), 2, dtype=torch.float64)
        truth[round_.active] = truths[done : done + active]
        done += active
        scores = _scores(belief, some.axes, truth, scoring)
        parts.append((scores[0][round_.active], scores[1][round_.active], scores[2][round_.active]))
    means, densities, levels = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Answers(np.array(entities), np.array(times), means, truths.numpy(), densities, levels)


def _scores(
    belief: ParticleFilter, axes: Sequence[int], truth: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (B, 2) of the position, log kernel density at the truth (B, 2), and the truth's level; (B,) each."""
    position = copy(belief)
    position.particles, position.generator = belief.particles[..., list(axes)], generator
    points = torch.cat([truth[:, None], position.sample(LEVEL_POINTS)], 1)
    density = position.log_density(points)
    level = (density[:, 1:] > density[:, :1]).to(truth.dtype).mean(-1)
    return position.mean(), density[:, 0], level


def _rounds(some: EntityGroup) -> Iterator[Round]:
    timelines = list(some.timelines.values())
    for round_ in range(max(map(len, timelines), default=0)):
        active = [round_ < len(timeline) for timeline in timelines]
        intervals = [
            timeline[round_].time - timeline[round_ - 1].time if round_ and round_ < len(timeline) else 0.0
            for timeline in timelines
        ]
        readings: list[tuple[Reading, ...]] = [
            timeline[round_].readings if round_ < len(timeline) else () for timeline in timelines
        ]
        transition, noise = linear_transition(some.model.motion, torch.tensor(intervals, dtype=torch.float64))
        yield Round(transition, noise, encode(readings, some.model.motion.dimension), torch.tensor(active))


def _prior(some: EntityGroup) -> GaussianMixture:
    """The model's prior for every entity."""
    one = some.model.prior.mixture()
    return one.rows(torch.zeros(len(some.timelines), dtype=torch.int64))


def groups(script: Script) -> dict[str, EntityGroup]:
    """The mower, and the fleet without the entity whose prior is replaced: the baselines do not get that prior."""
    fleet = [each for each in script.fleet.observations if each.entity != script.gates.entity]
    recording = script.recording
    both = {MOWER: group(recording.model, recording.sensors, recording.observations, script.truth)}
    if fleet:
        both["fleet"] = group(script.fleet.model, script.fleet.sensors, fleet, script.truth)
    return both


def main(arguments: Sequence[str]) -> None:
    """Compute the baselines for both groups; the file's keys are `GROUP/METHOD`."""
    with suppress(AttributeError, OSError):
        os.nice(19)
    torch.set_num_threads(1)
    script = write(Scenario.from_json(arguments[0]))
    answers = {}
    for name, some in groups(script).items():
        answers[f"{name}/{EKF}"] = extended_kalman(some)
        answers[f"{name}/{ITERATED}"] = iterated_kalman(some)
        answers[f"{name}/{PARTICLES}"] = particles(some)
    path = Path(arguments[1])
    unfinished = path.with_suffix(".part")
    save(unfinished, answers)
    unfinished.replace(path)


if __name__ == "__main__":
    main(sys.argv[1:])
