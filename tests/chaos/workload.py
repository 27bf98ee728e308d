"""The messages of a chaos run, the same for the same seed, and what must come of them.

Time is cut into segments. At their borders all that was sent has been applied, and definitions may change; so it is
known which definition each observation meets. Within a segment observations are late, repeated and spoiled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from beliefstream.inference.tracking.events import Belief, Event, instants
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import (
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Prior,
    RangeSensor,
    Sensor,
    parse,
)
from beliefstream.schemas.model import Coordinate
from beliefstream.schemas.motions import RandomWalk
from beliefstream.streams.definitions.models import prior_change
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.reader import EntityModel

START = 1_700_000_000.0
INTERVAL = 0.5  # seconds of event time between an entity's observations
GAP = 10.0  # seconds of event time between segments
CALM = 12  # observations of an entity, in order, after a change: by then nothing before it can be reached
LATEST = 1.5  # seconds that an observation is late; the window is 2
LATE, REPEATED, SPOILED, RANGED = 0.1, 0.02, 0.001, 0.02  # shares
STATED = 0.05  # share of the entities that get a prior in a segment


class Planted(NamedTuple):
    """A message that cannot be used."""

    key: bytes | None
    value: bytes


@dataclass
class Segment:
    """Between two changes.

    Attributes:
        definitions: that change at its beginning. probe: a sensor defined after them.
        priors: to be sent before the observations.
        messages: (key, value) of the observations in order of arrival, or what is planted.
        counts: messages of every entity that are applied.
    """

    number: int
    definitions: list[Model | Sensor]
    probe: Sensor
    priors: list[Prior]
    messages: list[tuple[bytes, bytes] | Planted] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Workload:
    """Args: observations: at least so many, in all. entities: how many. segments: how many."""

    seed: int
    observations: int
    entities: int = 1000
    segments: int = 20

    @property
    def ticks(self) -> int:
        """Observations of an entity in a segment."""
        return max(CALM + 4, math.ceil(self.observations / (self.entities * self.segments)))

    @property
    def total(self) -> int:
        """Observations, those that come twice counted once."""
        return self.ticks * self.entities * self.segments

    @property
    def names(self) -> list[str]:
        return [f"entity-{number:04d}" for number in range(self.entities)]

    def model(self, segment: int) -> Model:
        """It changes at every third segment."""
        version = segment // 3 + 1
        return Model(
            entity="*",
            name="chaos",
            version=version,
            coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
            motion=RandomWalk(spectral_density=0.1 * version),
            prior=Mixture(
                weights=(0.5, 0.5),
                means=((-10.0, 0.0), (10.0, 0.0)),
                covariances=(((400.0, 0.0), (0.0, 400.0)),) * 2,
            ),
            components=4,
        )

    def sensors(self, segment: int) -> list[Sensor]:
        """Their noise changes at every second segment."""
        deviation = 1.0 + 0.1 * (segment // 2)
        return [
            PositionSensor(sensor="fix", standard_deviation=deviation),
            RangeSensor(
                sensor="range",
                position=(0.0, -80.0),
                standard_deviation=deviation,
                maximum_range=500.0,
                outlier_probability=0.1,
            ),
        ]

    def probe(self, segment: int) -> Sensor:
        return PositionSensor(sensor=f"probe-{segment}", standard_deviation=2.0)

    def segment(self, number: int) -> Segment:
        """Its messages."""
        random = np.random.default_rng((self.seed, number))
        begin = START + number * (self.ticks * INTERVAL + GAP)
        shape = (self.ticks, self.entities)
        offsets = np.arange(self.entities) % 97 * 0.004
        times = begin + INTERVAL * np.arange(self.ticks)[:, None] + offsets
        truth = np.random.default_rng(self.seed).uniform(-40, 40, (self.entities, 2))
        fixes = truth + random.normal(size=(*shape, 2))
        calm = np.arange(self.ticks)[:, None] < CALM
        late = (random.random(shape) < LATE) & ~calm
        arrivals = times + np.where(late, random.uniform(0, LATEST, shape), 0.0)
        ranged = (random.random(shape) < RANGED * 10) & (np.arange(self.entities) % 10 == 0)
        ranges = np.linalg.norm(truth - (0.0, -80.0), axis=1) + random.normal(size=shape)
        again = (random.random(shape) < REPEATED) & ~calm
        definitions: list[Model | Sensor] = []
        if number % 3 == 0:
            definitions.append(self.model(number))
        if number % 2 == 0:
            definitions.extend(self.sensors(number))
        stated = random.choice(self.entities, max(1, int(STATED * self.entities)), replace=False)
        middle = begin + INTERVAL * self.ticks / 2 + 0.1
        segment = Segment(
            number,
            definitions,
            self.probe(number),
            [self._prior(int(entity), middle, number + place) for place, entity in enumerate(stated)],
            counts=dict.fromkeys(self.names, self.ticks),
        )
        for prior in segment.priors:
            segment.counts[prior.entity] += 1
        queue: list[tuple[float, tuple[bytes, bytes] | Planted]] = []
        for tick in range(self.ticks):
            for entity, name in enumerate(self.names):
                at = float(times[tick, entity])
                if tick == 0:
                    sensor, value = segment.probe.sensor, _listed(fixes[tick, entity])
                elif ranged[tick, entity]:
                    sensor, value = "range", repr(float(ranges[tick, entity]))
                else:
                    sensor, value = "fix", _listed(fixes[tick, entity])
                message = _written(name, sensor, at, value, f"{number}-{tick}-{entity}")
                queue.append((float(arrivals[tick, entity]), message))
                if again[tick, entity]:
                    queue.append((float(arrivals[tick, entity]) + 0.3, message))
                if random.random() < SPOILED and not calm[tick, 0]:
                    queue.append((at, self._spoiled(name, at, int(random.integers(3)))))
        queue.sort(key=lambda pair: pair[0])
        segment.messages = [message for _, message in queue]
        return segment

    def doomed(self, count: int) -> list[tuple[bytes, bytes]]:
        """Observations that are to be lost before a worker sees them; of entities that no other message names."""
        names = (f"doomed-{number:04d}" for number in range(count))
        return [_written(name, "fix", START, "[0.0, 0.0]", name) for name in names]

    def _prior(self, entity: int, time: float, mode: int) -> Prior:
        mixture = Mixture(
            weights=(0.7, 0.3),
            means=((1.0 * (entity % 7), 2.0), (-3.0, 1.0 * (entity % 5))),
            covariances=(((90.0, 5.0), (5.0, 60.0)), ((200.0, 0.0), (0.0, 300.0))),
        )
        return Prior(
            entity=self.names[entity], time=time, mixture=mixture, mode=("replace", "product")[mode % 2]
        )

    def _spoiled(self, name: str, time: float, kind: int) -> Planted:
        if kind == 0:
            return Planted(name.encode(), b'{"entity": "' + name.encode() + b'", "tim')
        if kind == 1:
            return Planted(name.encode(), _written(name, "no-such-sensor", time, "1.0", "")[1])
        return Planted(
            name.encode(), _written(name, "fix", time - 1000.0, "[0.0, 0.0]", "")[1]
        )  # far too late


def _listed(pair: np.ndarray) -> str:
    return f"[{float(pair[0])!r}, {float(pair[1])!r}]"


def _written(entity: str, sensor: str, time: float, value: str, name: str) -> tuple[bytes, bytes]:
    named = f', "id": "{name}"' if name else ""
    text = f'{{"entity": "{entity}", "sensor": "{sensor}", "time": {time!r}, "value": {value}{named}}}'
    return entity.encode(), text.encode()


def beliefs(workload: Workload, updater: Updater, last: int | None = None) -> dict[str, Belief]:
    """The belief of every entity after the segments up to `last`: the log without what came twice, in one thread."""
    found: dict[str, Belief] = {}
    for number in range(workload.segments if last is None else last + 1):
        found = _through(workload, number, found, updater)
    return found


def _through(
    workload: Workload, number: int, known: Mapping[str, Belief], updater: Updater
) -> dict[str, Belief]:
    segment, model = workload.segment(number), EntityModel(workload.model(number))
    sensors: dict[str, Sensor] = {each.sensor: each for each in workload.sensors(number)}
    sensors[segment.probe.sensor] = segment.probe
    logs: dict[str, list[Event]] = {name: [] for name in workload.names}
    seen: set[bytes] = set()
    for message in segment.messages:
        if isinstance(message, Planted) or message[1] in seen:
            continue
        seen.add(message[1])
        observation = parse(Observation, message[1])
        reading = reading_of(observation, model.sensor(sensors[observation.sensor]))
        logs[observation.entity].append(Event(observation.entity, observation.time, reading=reading))
    names = model.message.coordinate_names
    for prior in segment.priors:
        logs[prior.entity].append(Event(prior.entity, prior.time, prior=prior_change(prior, names)))
    timelines = {entity: instants(log) for entity, log in logs.items()}
    current = dict(known)
    for turn in range(max(map(len, timelines.values()))):
        active = [entity for entity, timeline in timelines.items() if turn < len(timeline)]
        steps = [Step(current.get(entity), model.state, timelines[entity][turn]) for entity in active]
        for entity, outcome in zip(active, advance(steps, updater), strict=True):
            current[entity] = outcome.belief
    return current
