"""What the page says beside the map: health at a glance, sensors, dead letters, details of one entity."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from beliefstream.schemas import Model, Observation, Sensor, Unusable, parse, printable
from beliefstream.streams.client.dead_letters import ReceivedDeadLetter
from beliefstream.streams.live.beliefs import Beliefs, Entity, Latencies, Plane
from beliefstream.streams.live.group import GroupState
from beliefstream.streams.live.reading import Batch
from beliefstream.streams.live.verdicts import SensorVerdicts

LOW = 0.5  # sample efficiencies below it are listed
MAXIMUM_LETTERS = 100
MAXIMUM_LISTED = 20
SHOWN_BYTES = 300  # of a dead letter's value
RATE_SECONDS = 5.0  # over which rates are taken


class Overview:
    """Definitions, rates and dead letters."""

    def __init__(self) -> None:
        self.sensors: dict[str, Sensor] = {}
        self.models: dict[str, Model] = {}
        self.letters: deque[ReceivedDeadLetter] = deque(maxlen=MAXIMUM_LETTERS)
        self.reasons: Counter[str] = Counter()
        self.verdicts = SensorVerdicts()
        self.latencies = Latencies()  # from observations to posteriors
        self.group = GroupState()  # the workers' consumer group
        self._listed: tuple[object, dict[str, Any]] = (None, {})  # verdicts, and of which versions
        self.version = 0  # of the definitions: rises with every change
        self.letter_count = 0  # so far, those read at the start included
        self._delay: float | None = None
        # of the newest record: when it was read, by the monotonic clock, less how old it was then
        self._newest: dict[str, float] = {}
        self._counts: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])

    def add(self, batch: Batch) -> None:
        """Take over what has been read."""
        _update(self.sensors, batch.sensors)
        _update(self.models, batch.models)
        self.version += bool(batch.sensors or batch.models)
        self.verdicts.add(batch.sensor_health, batch.health_stamps)
        self.letters.extend(batch.dead_letters)
        self.letter_count += len(batch.dead_letters)
        self.reasons.update(str(each.letter.reason) for each in batch.dead_letters)
        now = time.monotonic()
        if batch.delay is not None:
            self._delay, self._newest["posterior"] = batch.delay, now - batch.delay
        if batch.observed:
            self._newest["observation"] = now
        _, posteriors, observations = self._counts[-1]
        self._counts.append((now, posteriors + batch.received, observations + batch.observed))
        while len(self._counts) > 2 and self._counts[1][0] < now - RATE_SECONDS:
            self._counts.popleft()

    def ages(self) -> dict[str, float]:
        """Seconds since the newest posterior, and since the newest observation, if there is one."""
        now = time.monotonic()
        return {topic: now - newest for topic, newest in self._newest.items()}

    def health(self, beliefs: Beliefs) -> dict[str, Any]:
        """Rates, counts and what is unwell."""
        (begin, *first), (end, *last) = self._counts[0], self._counts[-1]
        seconds = max(end - begin, 1e-3)
        poor = [
            (entity.posterior.quality.sample_efficiency, entity.name)
            for entity in beliefs.entities.values()
            if entity.posterior.quality.sample_efficiency < LOW
        ]
        refined = sum(each.posterior.quality.method == "refined" for each in beliefs.entities.values())
        return {
            "posteriors": (last[0] - first[0]) / seconds,
            "observations": (last[1] - first[1]) / seconds,
            "entities": len(beliefs.entities),
            "delay": self._delay,
            "latency": self.latencies.quantiles(0.5, 0.95),
            "lag": self.group.lag,
            "workers": self.group.workers,
            "group_note": self.group.note,
            "refined": refined / len(beliefs.entities) if beliefs.entities else None,
            "low": LOW,
            "poor": [
                {"name": name, "efficiency": round(share, 3)} for share, name in sorted(poor)[:MAXIMUM_LISTED]
            ],
            "poor_count": len(poor),
            "letter_count": self.letter_count,
            "reasons": dict(self.reasons.most_common(MAXIMUM_LISTED)),
        }

    def listed_letters(self, entity: str | None = None) -> list[dict[str, Any]]:
        """The newest dead letters, of one entity or of all; the newest first."""
        found = [each for each in reversed(self.letters) if entity is None or each.entity == entity]
        return [_letter(each) for each in found[:MAXIMUM_LISTED]]

    def listed_sensors(self, plane: Plane | None, stretch: float = 1.0) -> list[dict[str, Any]]:
        """The sensors, with their place on the map where they have one."""
        return [
            {"name": sensor.sensor, "kind": sensor.kind, "place": place_of(sensor, plane, stretch)}
            for sensor in self.sensors.values()
        ]

    def listed_verdicts(self) -> tuple[object, dict[str, Any]]:
        """The version of the verdicts, and those on all defined sensors that have one."""
        version = (self.version, self.verdicts.version)
        if self._listed[0] != version:
            found = {name: self.verdicts.of(sensor) for name, sensor in self.sensors.items()}
            self._listed = version, {name: verdict for name, verdict in found.items() if verdict is not None}
        return self._listed

    def words(self) -> dict[str, str]:
        """The verdict on each defined sensor that has one, in a word."""
        return {name: str(verdict["verdict"]) for name, verdict in self.listed_verdicts()[1].items()}

    def model_of(self, entity: str) -> Model | None:
        """The entity's own model, or else that of all."""
        return self.models.get(entity) or self.models.get("*")

    def observations_of(self, entity: Entity) -> list[dict[str, Any]]:
        """The last observations, the newest first."""
        found = []
        for seen in reversed(entity.observations):
            try:
                observation = parse(Observation, seen.value)
            except Unusable:
                continue  # it is a dead letter
            values = [float(f"{value:.7g}") for value in observation.values]
            found.append({"sensor": observation.sensor, "time": observation.time, "values": values})
        return found


def details(entity: Entity, after: int, overview: Overview) -> dict[str, Any]:
    """Everything about one entity, with the samples of its history that are newer than number `after`."""
    posterior = entity.posterior
    error = posterior.quality.accumulated_error
    return {
        "id": entity.number,
        "name": entity.name,
        "time": posterior.time,
        "sequence": posterior.sequence,
        "revision": posterior.revision,
        "prior_sequence": posterior.prior_sequence,
        "model": f"{posterior.model} {posterior.model_version}",
        "coordinates": [{"name": each.name, "unit": each.unit} for each in posterior.coordinates],
        "efficiency": posterior.quality.sample_efficiency,
        "p_value": posterior.quality.p_value,
        "log_evidence": posterior.quality.log_evidence,
        "error": error,
        "method": posterior.quality.method,
        "likelihood": posterior.quality.likelihood,
        "outside": posterior.quality.outside_training,
        "components": posterior.mixture.components,
        "whole": after == 0,
        "samples": [sample.to_json() for sample in entity.samples.after(after)],
        "observations": overview.observations_of(entity),
        "letters": overview.listed_letters(entity.name),
    }


def place_of(sensor: Sensor, plane: Plane | None, stretch: float = 1.0) -> tuple[float, float] | None:
    """Where the sensor stands in the plane of the map; None if it has no place there."""
    position = getattr(sensor, "position", None)
    names = sensor.coordinate_names
    if position is None or plane is None or plane[0] not in names or plane[1] not in names:
        return None
    first, second = names.index(plane[0]), names.index(plane[1])
    if len(position) <= max(first, second):
        return None
    return stretch * float(position[first]), float(position[second])


def _update(known: dict[str, Any], read: Mapping[str, Any]) -> None:
    for name, definition in read.items():
        if definition is None:
            known.pop(name, None)
        else:
            known[name] = definition


def _letter(received: ReceivedDeadLetter) -> dict[str, Any]:
    value = (received.letter.value or b"")[:SHOWN_BYTES].decode(errors="backslashreplace")
    return {
        "time": received.time,
        "reason": str(received.letter.reason),
        "detail": received.letter.detail,
        "entity": received.entity,
        "sensor": received.sensor,
        "source": received.source,
        "value": printable(value),
    }
