"""Converts a recording to input of the filters by entity, with the targets of their beliefs."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.motion import Control
from beliefstream.inference.sensors.readings import Reading, expanded, held
from beliefstream.inference.tracking.events import Instant, StateModel
from beliefstream.schemas import Model, Sensor
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.scores.recording import Recording


@dataclass(frozen=True, eq=False)
class Case:
    """Target of a scored belief: the truth for the belief after an instant, or a report for the belief before it."""

    target: Tensor  # (1, d)
    noise: Tensor | None = None  # (1, d, d), of a report; None for the truth


@dataclass(frozen=True, eq=False)
class Controls:
    """Reported inputs of an entity's motion; each holds until the next."""

    times: list[float]
    reports: list[Control]  # batches of one

    def between(self, start: float, end: float) -> Iterator[tuple[float, Control | None]]:
        """Yield the parts of an interval with a constant control: length in s, and control, None before the first."""
        index = bisect_right(self.times, start) - 1
        while start < end:
            until = min(self.times[index + 1], end) if index + 1 < len(self.times) else end
            if until > start:
                yield until - start, self.reports[index] if index >= 0 else None
            start, index = until, index + 1


@dataclass(frozen=True, eq=False)
class Track:
    """One entity's part of a recording.

    Attributes:
        entity: name of the entity.
        model: its state model.
        axes: indices of the scored coordinates.
        instants: instants with readings or priors, in order of time.
        cases: scored cases by the index of the instant.
        controls: reported inputs of its motion.
    """

    entity: str
    model: StateModel
    axes: list[int]
    instants: list[Instant]
    cases: dict[int, Case]
    controls: Controls


def defined(sensors: Iterable[Sensor], models: Iterable[Model]) -> Log:
    """Return a log without observations, with these definitions."""
    log = Log()
    for sensor in sensors:
        log.define_sensor(sensor)
    for model in models:
        log.define_model(model)
    return log


def log_of(recording: Recording) -> Log:
    """Return the recording as a log."""
    log = defined(recording.sensors, recording.models)
    for number, observation in enumerate(recording.observations, 1):
        log.add(observation.to_json(), f"line:{number}")
    return log


def controls_of(instants: Sequence[Instant], inputs: int) -> Controls:
    """Return the reported controls of one entity, whose motion has `inputs` inputs."""
    controls, control = Controls([], []), None
    for instant in instants:
        if instant.control is not None:
            control = held(control, instant.control, inputs)
            value, covariance = torch.from_numpy(control.value), torch.from_numpy(control.covariance)
            controls.times.append(instant.time)
            controls.reports.append(Control(value[None], covariance[None]))
    return controls


def tracks_of(recording: Recording, log: Log) -> list[Track]:
    """Return the track of every entity, sorted by name."""
    models = {model.entity: model for model in recording.models}
    found = []
    for entity, timeline in sorted(log.timelines().items()):
        model, instants = models[entity], [instant for instant in timeline if instant.informs]
        state = EntityModel(model).state
        axes = [model.coordinate_names.index(name) for name in recording.coordinates]
        cases = _truths(recording, instants) if recording.has_truth else _reports(recording, instants, axes)
        controls = controls_of(timeline, state.motion.inputs)
        found.append(Track(entity, state, axes, instants, cases, controls))
    return found


def _truths(recording: Recording, instants: Sequence[Instant]) -> dict[int, Case]:
    first = max(recording.scored_from, recording.truth_times[0])
    last = recording.truth_times[-1]
    numbers = [i for i, instant in enumerate(instants) if instant.readings and first <= instant.time <= last]
    if not numbers:
        return {}
    truth = torch.from_numpy(recording.truth_at([instants[i].time for i in numbers]))
    return {i: Case(truth[row : row + 1]) for row, i in enumerate(numbers)}


def _reports(recording: Recording, instants: Sequence[Instant], axes: list[int]) -> dict[int, Case]:
    """Return reports of exactly the scored coordinates, except the first, which has no prediction."""
    found = {}
    for number, instant in enumerate(instants):
        if number == 0 or instant.time < recording.scored_from:
            continue
        for reading in expanded(instant.readings):
            case = _report(reading, axes)
            if case is not None:
                found[number] = case
                break
    return found


def _report(reading: Reading, axes: list[int]) -> Case | None:
    sensor = reading.sensor
    if sensor.kind != LINEAR or len(sensor.matrix) != len(axes):
        return None
    matrix = torch.from_numpy(sensor.matrix)
    if not torch.equal(matrix, torch.eye(matrix.shape[1], dtype=matrix.dtype)[axes]):
        return None
    covariance = reading.covariance if reading.covariance is not None else sensor.covariance
    value = torch.from_numpy((reading.value - sensor.bias) / sensor.scale - sensor.origin)
    return Case(value[None], torch.from_numpy(covariance / sensor.scale**2)[None])
