"""Runs the baselines on a scenario's observations: `python -m beliefstream.streams.demo.baselines SCENARIO FILE`.

It runs in a separate process at the lowest priority, so that it uses only idle processor time. All baselines have the
worker's models, priors and sensors. The particle filter also models the sensors' outliers; the extended Kalman filters
(EKF) do not. None has a gate, because a filter with a wrong belief would reject the observations that could correct it.
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

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.coverage import levels
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.motion import transition as linear_transition
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.tracking.events import Event, Instant, StateModel, instants
from beliefstream.schemas import Model, Observation, Sensor
from beliefstream.streams.definitions.models import state_model
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.demo.baseline_answers import Answers, save
from beliefstream.streams.demo.scenario import MOWER, Scenario, Schedule, schedule_of
from beliefstream.streams.scores.filters import (
    ExtendedKalmanFilter,
    IteratedKalmanFilter,
    ParticleFilter,
    RegularisedParticleFilter,
)

Array = NDArray[np.float64]

EKF, ITERATED, PARTICLES = "EKF", "iterated EKF", "10 000 particles"
PARTICLE_COUNT = 10_000
# Numbers of points that estimate the level of a truth. (number + 1) * 0.9 is whole, so the 90 % region of a correct
# belief contains the truth with probability 0.9 even for few points.
LEVEL_POINTS = 19
MIXTURE_LEVEL_POINTS = 509


@dataclass(frozen=True, eq=False)
class Round:
    """The next instant of B entities; entities without another instant are not active and do not move."""

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
        """The r-th instants of all entities together, for r = 0, 1, ..."""
        return list(_rounds(self))


def entity_group(
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


def instants_of(group: EntityGroup) -> tuple[list[str], list[float]]:
    """Return entity and time of every instant, in the order of `rounds`."""
    entities, times = [], []
    for round_ in range(max(map(len, group.timelines.values()), default=0)):
        for entity, timeline in group.timelines.items():
            if round_ < len(timeline):
                entities.append(entity)
                times.append(timeline[round_].time)
    return entities, times


def truths_of(group: EntityGroup) -> tuple[list[str], list[float], Tensor]:
    """Return entity, time and true position (N, 2) of every instant, in the order of `rounds`."""
    entities, times = instants_of(group)
    truths = np.empty((len(times), 2))
    for entity in group.timelines:
        rows = [number for number, name in enumerate(entities) if name == entity]
        truths[rows] = group.truth(entity, [times[number] for number in rows])
    return entities, times, torch.as_tensor(truths)


def extended_kalman(group: EntityGroup) -> Answers:
    """Run the extended Kalman filter, one linearisation per observation, without a gate."""
    return _kalman(group, ExtendedKalmanFilter(*_prior(group).moments(), gate=None))


def iterated_kalman(group: EntityGroup) -> Answers:
    """Run the iterated extended Kalman filter, which searches for the mode of each posterior, without a gate."""
    return _kalman(group, IteratedKalmanFilter(*_prior(group).moments()))


def _kalman(group: EntityGroup, belief: ExtendedKalmanFilter | IteratedKalmanFilter) -> Answers:
    beliefs = []
    for number, round_ in enumerate(group.rounds):
        if number:
            belief.predict(round_.transition, round_.noise)
        belief.update(round_.observations)
        beliefs.append(belief.mixture().marginal(group.axes).rows(round_.active))
    entities, times, truths = truths_of(group)
    return mixture_answers(entities, times, truths, concatenate(beliefs))


def mixture_answers(
    entities: Sequence[str], times: Sequence[float], truths: Tensor, beliefs: GaussianMixture
) -> Answers:
    """Compare N mixtures over the position with N true positions (N, 2)."""
    densities = beliefs.log_density(truths[:, None])[:, 0]
    parts = [torch.arange(begin, min(begin + 1024, len(times))) for begin in range(0, len(times), 1024)]
    generator = torch.Generator().manual_seed(11)
    level = [levels(beliefs.rows(rows), truths[rows], generator, MIXTURE_LEVEL_POINTS) for rows in parts]
    mean = beliefs.moments()[0]
    return Answers(
        np.array(entities),
        np.array(times),
        mean.numpy(),
        truths.numpy(),
        densities.numpy(),
        torch.cat(level).numpy(),
    )


def particles(group: EntityGroup, count: int = PARTICLE_COUNT, seed: int = 0) -> Answers:
    """Run the regularised particle filter."""
    belief = RegularisedParticleFilter(_prior(group), count, torch.Generator().manual_seed(seed))
    entities, times, truths = truths_of(group)
    scoring = torch.Generator().manual_seed(
        seed + 1
    )  # a separate one, so that scoring does not change the run
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for number, round_ in enumerate(group.rounds):
        if number:
            belief.predict(round_.transition, round_.noise)
        belief.update(round_.observations)
        active = int(round_.active.sum())
        truth = torch.zeros(len(round_.active), 2, dtype=torch.float64)
        truth[round_.active] = truths[done : done + active]
        done += active
        scores = _scores(belief, group.axes, truth, scoring)
        parts.append((scores[0][round_.active], scores[1][round_.active], scores[2][round_.active]))
    means, densities, levels = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Answers(np.array(entities), np.array(times), means, truths.numpy(), densities, levels)


def _scores(
    belief: ParticleFilter, axes: Sequence[int], truth: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean position (B, 2), the log kernel density at `truth` (B, 2), and its level, the latter two (B,)."""
    position = copy(belief)
    position.particles, position.generator = belief.particles[..., list(axes)], generator
    points = torch.cat([truth[:, None], position.sample(LEVEL_POINTS)], 1)
    density = position.log_density(points)
    level = (density[:, 1:] > density[:, :1]).sum(-1).double() / (LEVEL_POINTS + 1)
    return position.mean(), density[:, 0], level


def _rounds(group: EntityGroup) -> Iterator[Round]:
    timelines = list(group.timelines.values())
    for round_ in range(max(map(len, timelines), default=0)):
        active = [round_ < len(timeline) for timeline in timelines]
        intervals = [
            timeline[round_].time - timeline[round_ - 1].time if round_ and round_ < len(timeline) else 0.0
            for timeline in timelines
        ]
        readings: list[tuple[Reading, ...]] = [
            timeline[round_].readings if round_ < len(timeline) else () for timeline in timelines
        ]
        transition, noise = linear_transition(
            group.model.motion, torch.tensor(intervals, dtype=torch.float64)
        )
        yield Round(transition, noise, encode(readings, group.model.motion.dimension), torch.tensor(active))


def _prior(group: EntityGroup) -> GaussianMixture:
    """Return the model's prior for every entity."""
    one = group.model.prior.mixture()
    return one.rows(torch.zeros(len(group.timelines), dtype=torch.int64))


def groups(schedule: Schedule) -> dict[str, EntityGroup]:
    """Return the mower, and the fleet without the entity whose prior is replaced; baselines do not get that prior."""
    fleet = [each for each in schedule.fleet.observations if each.entity != schedule.gates.entity]
    recording = schedule.recording
    both = {MOWER: entity_group(recording.model, recording.sensors, recording.observations, schedule.truth)}
    if fleet:
        both["fleet"] = entity_group(schedule.fleet.model, schedule.fleet.sensors, fleet, schedule.truth)
    return both


def _yield_processor() -> None:
    """Take the lowest priority, so that the stream has the processor when it needs it."""
    with suppress(AttributeError, OSError):
        os.nice(19)
    # Linux shares the processor equally among sessions, and `nice` counts only within one
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


def main(arguments: Sequence[str]) -> None:
    """Compute the baselines for both groups; the file's keys are `GROUP/METHOD`."""
    _yield_processor()
    torch.set_num_threads(1)
    schedule = schedule_of(Scenario.from_json(arguments[0]))
    answers = {}
    for name, group in groups(schedule).items():
        answers[f"{name}/{EKF}"] = extended_kalman(group)
        answers[f"{name}/{ITERATED}"] = iterated_kalman(group)
        answers[f"{name}/{PARTICLES}"] = particles(group)
    path = Path(arguments[1])
    unfinished = path.with_suffix(".part")
    save(unfinished, answers)
    unfinished.replace(path)


if __name__ == "__main__":
    main(sys.argv[1:])
