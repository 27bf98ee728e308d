"""The demo's script: which observations are sent when, which are faulty, and the true positions.

A scenario is a few numbers that determine the script: the process that computes the baselines writes the same script as
the one that sends it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import Mixture, Observation, Prior
from beliefstream.streams.local.simulated_fleet import Simulation, simulate
from beliefstream.streams.recordings import Recording, plaza

Array = NDArray[np.float64]

MOWER = "mower"
FLEET_RATE = 2.0  # observations of each entity per second
GATE_DEVIATIONS = (4.0, 4.0, 2.0, 2.0)  # m, m, m/s, m/s; accuracy of the operator's knowledge
SIGHTING_ERROR = (2.5, -1.5)  # m; from the entity to the true gate
BAD_MESSAGES_AT = (0.15, 0.3, 0.45, 0.6)  # as a share of the duration
JUMP_AT = 0.5


@dataclass(frozen=True)
class Scenario:
    """The numbers that determine a script.

    Attributes:
        speed: multiple of real time at which the recording is replayed.
        entities: of the simulated fleet.
        start: when it begins, seconds since the epoch.
        duration: s; None for as long as the recording lasts at that speed.
        seed: of the fleet.
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
class Cue:
    """One message: an observation, a prior or plain bytes, with its due time in seconds after the start."""

    due: float
    observation: Observation | None = None
    prior: Prior | None = None
    raw: tuple[str, bytes] | None = None  # key, value
    note: str = ""  # shown to the user


@dataclass(frozen=True)
class Gates:
    """The sighting in the middle of the run: an entity was seen at one of two places, one of them true.

    Attributes:
        entity: the one whose prior is replaced.
        time: when, seconds since the epoch.
        names: of the two places; the first is the true one.
        places: (2, 2), m.
    """

    entity: str
    time: float
    names: tuple[str, str]
    places: tuple[tuple[float, float], tuple[float, float]]

    def mixture(self) -> Mixture:
        """Return both places, equally likely, over x, y, vx, vy."""
        covariance = np.diag(np.square(GATE_DEVIATIONS))
        return Mixture.model_validate(
            {
                "weights": (0.5, 0.5),
                "means": [(*place, 0.0, 0.0) for place in self.places],
                "covariances": [covariance.tolist()] * 2,
            }
        )


@dataclass(frozen=True, eq=False)
class Script:
    """A scenario with all its messages.

    Attributes:
        recording: the part that is played, its times shifted to end when the script does.
        fleet: with times from the start on.
        duration: s, of the sending.
        gates: the prior that is replaced.
        cues: all messages, by due time.
    """

    recording: Recording
    fleet: Simulation
    duration: float
    gates: Gates
    cues: Sequence[Cue]

    @property
    def observations(self) -> int:
        """Number of valid observations."""
        return sum(cue.observation is not None and not cue.note for cue in self.cues)

    def truth(self, entity: str, times: Sequence[float] | Array) -> Array:
        """The entity's true position, (N, 2) m, at N times."""
        if entity == MOWER:
            return self.recording.truth_at(times)
        return self.fleet.truth_at(entity, times)[:, :2]


def write(scenario: Scenario) -> Script:
    """Write the script of a scenario.

    Raises:
        RecordingUnavailable: the package with the recording is not installed.
        ValueError: a number is not positive.
    """
    if not scenario.speed > 0:
        raise ValueError(f"speed must be positive, got {scenario.speed}")
    recording, duration = _recording(scenario)
    fleet = simulate(scenario.entities, duration, FLEET_RATE, scenario.seed, scenario.start)
    gates = _gates(fleet, scenario.start + JUMP_AT * duration)
    first = recording.observations[0].time
    cues = [
        Cue((each.time - first) / scenario.speed, _identified(each, f"{MOWER}/{number}"))
        for number, each in enumerate(recording.observations)
    ]
    cues += [
        Cue(each.time - scenario.start, _identified(each, f"fleet/{number}"))
        for number, each in enumerate(fleet.observations)
    ]
    cues += _bad_messages(fleet, duration, scenario.start)
    cues.append(_sighting(gates, scenario.start))
    return Script(recording, fleet, duration, gates, sorted(cues, key=lambda cue: cue.due))


def _recording(scenario: Scenario) -> tuple[Recording, float]:
    """The part of the recording that fits, and how long it takes to play."""
    whole = plaza("plaza1", MOWER)
    first, last = whole.observations[0].time, whole.observations[-1].time
    duration = (last - first) / scenario.speed if scenario.duration is None else scenario.duration
    length = duration * scenario.speed
    # it is replayed faster than real time, so it ends, rather than begins, at the time of playing
    shifted = plaza("plaza1", MOWER, epoch=scenario.start + duration - first - length)
    begin = shifted.observations[0].time
    played = [each for each in shifted.observations if each.time - begin <= length]
    return replace(shifted, observations=played), duration


def _identified(observation: Observation, identifier: str) -> Observation:
    return observation.model_copy(update={"id": identifier})


def _gates(fleet: Simulation, time: float) -> Gates:
    """The sighting, for the entity then farthest from the middle in y, so that the gates are far apart."""
    places = {entity: fleet.truth_at(entity, time)[0, :2] for entity in fleet.entities}
    entity = max(places, key=lambda name: abs(places[name][1]))
    x, y = places[entity] + np.asarray(SIGHTING_ERROR)
    names = ("north gate", "south gate") if y > 0 else ("south gate", "north gate")
    return Gates(entity, time, names, ((float(x), float(y)), (float(x), float(-y))))


def _sighting(gates: Gates, start: float) -> Cue:
    prior = Prior(entity=gates.entity, mixture=gates.mixture(), time=gates.time, id="sighting")
    note = f"prior of {gates.entity} replaced: seen at the north gate or at the south gate"
    return Cue(gates.time - start, prior=prior, note=note)


def _bad_messages(fleet: Simulation, duration: float, start: float) -> Iterator[Cue]:
    """Four messages that no worker can use; each becomes a dead letter and affects nothing else."""
    entity, sensor = fleet.entities[0], fleet.sensors[0].sensor
    times = [share * duration for share in BAD_MESSAGES_AT]
    field = f'{{"entity": "{entity}", "sensor": "{sensor}", "time": {start + times[2]}'
    yield Cue(times[0], raw=(entity, b"position: 3, 4"), note="a message that is not JSON sent")
    unknown = Observation(entity=entity, sensor="fleet/position-9", time=start + times[1], value=(1.0, 2.0))
    yield Cue(times[1], observation=unknown, note="an observation of an unknown sensor sent")
    yield Cue(times[2], raw=(entity, f'{field}, "value": [NaN, 1.0]}}'.encode()), note="a value of NaN sent")
    field = f'{{"entity": "{entity}", "sensor": "{sensor}", "time": {start + times[3]}'
    yield Cue(times[3], raw=(entity, f'{field}, "value": [1.0]}}'.encode()), note="a value too short sent")
