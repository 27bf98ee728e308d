"""Schedule of the demo: the messages, including faulty ones, the time of each, and the true positions.

A scenario is a few numbers that determine the schedule. So the process of the baselines makes the same schedule as the
process that sends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import Mixture, Observation, Prior
from beliefstream.streams.demo.crate import CRATE, crate
from beliefstream.streams.demo.drones import drones
from beliefstream.streams.demo.plaza import plaza
from beliefstream.streams.local.simulated_fleet import Simulation, simulate
from beliefstream.streams.scores.recording import Recording

Array = NDArray[np.float64]

MOWER = "mower"
FLEET_RATE = 2.0  # observations of each entity per second
GATE_DEVIATIONS = (4.0, 4.0, 2.0, 2.0)  # m, m, m/s, m/s; standard deviations of the stated prior
SIGHTING_ERROR = (2.5, -1.5)  # m; from the entity to the true gate
BAD_MESSAGES_AT = (0.15, 0.3, 0.45, 0.6)  # as shares of the duration
JUMP_AT = 0.5  # time of the replaced prior, as a share of the duration


@dataclass(frozen=True)
class Scenario:
    """The numbers that determine a schedule.

    Attributes:
        speed: speed of the replayed recording, as a multiple of real time.
        entities: number of entities in the simulated fleet.
        start: start of the schedule, in seconds since the epoch.
        duration: duration in seconds; None for the length of the recording at that speed.
        seed: seed of the simulated fleet.
    """

    speed: float
    entities: int
    start: float
    duration: float | None = None
    seed: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Scenario:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class ScheduledMessage:
    """An observation, a prior or plain bytes, with the time to send it in seconds after the start."""

    due: float
    observation: Observation | None = None
    prior: Prior | None = None
    raw: tuple[str, bytes] | None = None  # key, value
    note: str = ""  # shown to the user


@dataclass(frozen=True)
class Gates:
    """A prior in the middle of the run, which states that an entity is at one of two gates.

    Attributes:
        entity: entity whose prior is replaced.
        time: time of the prior, in seconds since the epoch.
        names: names of the gates; the first is the true one.
        places: positions of the gates, (2, 2), m.
    """

    entity: str
    time: float
    names: tuple[str, str]
    places: tuple[tuple[float, float], tuple[float, float]]

    def mixture(self) -> Mixture:
        """Return the prior over x, y, vx, vy; both gates are equally likely."""
        covariance = np.diag(np.square(GATE_DEVIATIONS))
        return Mixture.model_validate(
            {
                "weights": (0.5, 0.5),
                "means": [(*place, 0.0, 0.0) for place in self.places],
                "covariances": [covariance.tolist()] * 2,
            }
        )


@dataclass(frozen=True, eq=False)
class Schedule:
    """All messages of a scenario, with the true states.

    Attributes:
        recording: replayed part of the recording, with times shifted so that it ends with the schedule.
        fleet: the simulated fleet; its times begin at the start of the schedule.
        crate: an entity at rest that is carried elsewhere; it is not compared with other methods.
        drones: entities in space.
        duration: duration in seconds.
        gates: the prior that replaces a belief.
        messages: all messages, sorted by the time to send them.
    """

    recording: Recording
    fleet: Simulation
    crate: Recording
    drones: tuple[Recording, ...]
    duration: float
    gates: Gates
    messages: Sequence[ScheduledMessage]

    @property
    def parts(self) -> tuple[Recording | Simulation, ...]:
        """Everything that is observed, with its definitions."""
        return (self.recording, self.fleet, self.crate, *self.drones)

    @property
    def compared(self) -> dict[str, list[str]]:
        """Entities whose beliefs are compared with those of other methods, which do not get the prior, by group."""
        fleet = [name for name in self.fleet.entities if name != self.gates.entity]
        return {MOWER: [MOWER], "fleet": fleet, "drones": [each.name for each in self.drones]}

    @property
    def observations(self) -> int:
        """Number of valid observations."""
        return sum(message.observation is not None and not message.note for message in self.messages)

    def truth(self, entity: str, times: Sequence[float] | Array) -> Array:
        """Return the entity's true position, (N, 2) m, at N times; (N, 3) of a drone."""
        recordings = {MOWER: self.recording, CRATE: self.crate, **{each.name: each for each in self.drones}}
        if entity in recordings:
            return recordings[entity].truth_at(times)
        return self.fleet.truth_at(entity, times)[:, :2]


def schedule_of(scenario: Scenario) -> Schedule:
    """Make the schedule of a scenario.

    Raises:
        RecordingUnavailable: the package with the recording is not installed.
        ValueError: a number is not positive.
    """
    if not scenario.speed > 0:
        raise ValueError(f"speed must be positive, got {scenario.speed}")
    recording, duration = _recording(scenario)
    fleet = simulate(scenario.entities, duration, FLEET_RATE, scenario.seed, scenario.start)
    carried = crate(duration, scenario.seed, scenario.start)
    flying = drones(duration, scenario.seed, scenario.start)
    gates = _gates(fleet, scenario.start + JUMP_AT * duration)
    first = recording.observations[0].time
    messages = [
        ScheduledMessage((each.time - first) / scenario.speed, _identified(each, f"{MOWER}/{number}"))
        for number, each in enumerate(recording.observations)
    ]
    messages += [
        ScheduledMessage(each.time - scenario.start, _identified(each, f"{name}/{number}"))
        for name, observations in (
            ("fleet", fleet.observations),
            (CRATE, carried.observations),
            *((each.name, each.observations) for each in flying),
        )
        for number, each in enumerate(observations)
    ]
    messages += _bad_messages(fleet, duration, scenario.start)
    messages.append(_sighting(gates, scenario.start))
    messages.sort(key=lambda message: message.due)
    return Schedule(recording, fleet, carried, flying, duration, gates, messages)


def _recording(scenario: Scenario) -> tuple[Recording, float]:
    """Return the part of the recording that fits, and the duration of its replay."""
    whole = plaza("plaza1", MOWER)
    first, last = whole.observations[0].time, whole.observations[-1].time
    duration = (last - first) / scenario.speed if scenario.duration is None else scenario.duration
    length = duration * scenario.speed
    # it is replayed faster than real time, so its times end with the run instead of starting with it
    shifted = whole.shifted(scenario.start + duration - first - length)
    begin = shifted.observations[0].time
    played = [each for each in shifted.observations if each.time - begin <= length]
    return replace(shifted, observations=played), duration


def _identified(observation: Observation, identifier: str) -> Observation:
    return observation.model_copy(update={"id": identifier})


def _gates(fleet: Simulation, time: float) -> Gates:
    """Choose the entity with the largest |y| at that time, so that the gates are far apart."""
    places = {entity: fleet.truth_at(entity, time)[0, :2] for entity in fleet.entities}
    entity = max(places, key=lambda name: abs(places[name][1]))
    x, y = places[entity] + np.asarray(SIGHTING_ERROR)
    names = ("north gate", "south gate") if y > 0 else ("south gate", "north gate")
    return Gates(entity, time, names, ((float(x), float(y)), (float(x), float(-y))))


def _sighting(gates: Gates, start: float) -> ScheduledMessage:
    prior = Prior(entity=gates.entity, mixture=gates.mixture(), time=gates.time, id="sighting")
    note = f"prior of {gates.entity} replaced: seen at the north gate or at the south gate"
    return ScheduledMessage(gates.time - start, prior=prior, note=note)


def _bad_messages(fleet: Simulation, duration: float, start: float) -> Iterator[ScheduledMessage]:
    """Yield four messages that no worker can use; each becomes a dead letter and has no other effect."""
    entity, sensor = fleet.entities[0], fleet.sensors[0].sensor
    times = [share * duration for share in BAD_MESSAGES_AT]
    field = f'{{"entity": "{entity}", "sensor": "{sensor}", "time": {start + times[2]}'
    yield ScheduledMessage(times[0], raw=(entity, b"position: 3, 4"), note="a message that is not JSON sent")
    unknown = Observation(entity=entity, sensor="fleet/position-9", time=start + times[1], value=(1.0, 2.0))
    yield ScheduledMessage(times[1], observation=unknown, note="an observation of an unknown sensor sent")
    yield ScheduledMessage(
        times[2], raw=(entity, f'{field}, "value": [NaN, 1.0]}}'.encode()), note="a value of NaN sent"
    )
    field = f'{{"entity": "{entity}", "sensor": "{sensor}", "time": {start + times[3]}'
    yield ScheduledMessage(
        times[3],
        raw=(entity, f'{field}, "value": [1.0]}}'.encode()),
        note="a value with too few numbers sent",
    )
