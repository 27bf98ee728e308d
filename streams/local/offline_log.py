"""Fuses a log without Kafka, with the same validation, filter and posteriors as a worker."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from beliefstream.inference.tracking.events import Event, Instant, instants
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Model, Prior, Reset, Sensor, parse, parse_sensor
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.validation import Validator


@dataclass(frozen=True, eq=False)
class Fused:
    """One posterior, as a worker would send it; `applied` names the observations new in it."""

    entity: str
    model: EntityModel
    outcome: Outcome
    sequence: int
    prior_sequence: int
    applied: list[str]

    def to_json(self) -> bytes:
        """Return the JSON that `schemas.Posterior` reads."""
        return self.model.writer.write(
            self.entity, self.outcome, self.sequence, self.prior_sequence, self.applied
        )


class Log:
    """Observations and priors of any number of entities, in any order, and their definitions.

    Add definitions first: each message is checked against the definitions so far. A reset forgets the messages of its
    entity added before it: later ones start from the model's prior.

    Args:
        maximum_message_bytes: longer messages are refused.
        future_tolerance: seconds that a time may be ahead of the clock if the model has `live_time`.
    """

    def __init__(
        self, maximum_message_bytes: int | None = None, future_tolerance: float | None = None
    ) -> None:
        defaults = Settings.model_fields
        self._definitions = Definitions("sensors", "models")
        self._validator = Validator(
            self._definitions,
            maximum_message_bytes or defaults["maximum_message_bytes"].default,
            future_tolerance if future_tolerance is not None else defaults["future_tolerance"].default,
        )
        self._events: list[Event] = []
        self._names: list[str] = []  # by the events' labels; empty for a prior
        self._resets: dict[str, list[Reset]] = defaultdict(list)
        self._lives: list[int] = []  # by the events' labels: how many resets of their entity came before

    @property
    def observations(self) -> int:
        """Number of observations."""
        return sum(event.prior is None for event in self._events)

    @property
    def priors(self) -> int:
        """Number of priors."""
        return len(self._events) - self.observations

    @property
    def resets(self) -> int:
        """Number of resets; several with one id count once."""
        return sum(map(len, self._resets.values()))

    @property
    def posteriors(self) -> int:
        """Number of posteriors that `fuse` will return."""
        timelines = (timeline for life in self._by_life() for timeline in _timelines(life).values())
        return self.resets + sum(instant.informs for timeline in timelines for instant in timeline)

    @property
    def entities(self) -> int:
        """Number of entities with posteriors."""
        return len({event.entity for event in self._events} | self._resets.keys())

    def define_sensor(self, definition: Sensor | bytes) -> None:
        """Define a sensor or replace its definition; raises Unusable if the JSON is not one."""
        sensor = parse_sensor(definition) if isinstance(definition, bytes) else definition
        self._definitions.sensors[sensor.sensor] = sensor

    def define_model(self, definition: Model | bytes) -> None:
        """Define a model or replace it; raises Unusable if the JSON is not one."""
        model = parse(Model, definition) if isinstance(definition, bytes) else definition
        self._definitions.models[model.entity] = EntityModel(model)

    def add(self, raw: bytes, place: str = "") -> None:
        """Add an observation, a prior (if it has a mixture) or a reset (if it has a field `reset`).

        Args:
            raw: JSON.
            place: names the observation in posteriors if it has no id.

        Raises:
            Unusable: it is none of these, or does not fit the definitions; nothing was added.
        """
        key, is_stated = _glance(raw)
        now = time.time()
        if is_stated:
            stated, change = self._validator.prior_or_reset(key, raw, now)
            if isinstance(stated, Prior):
                assert change is not None
                self._add(change, "")
            elif stated.id is None or all(stated.id != other.id for other in self._resets[stated.entity]):
                self._resets[stated.entity].append(stated)
            return
        message, event = self._validator.observation(key, raw, now)
        self._add(event, message.id or place if event.control is None else "")

    def _add(self, event: Event, name: str) -> None:
        self._events.append(replace(event, label=len(self._events)))
        self._names.append(name)
        self._lives.append(len(self._resets.get(event.entity, ())))

    def _by_life(self) -> list[list[Event]]:
        """The events split by resets: before the first reset of their entities, before the second, and so on."""
        lives: list[list[Event]] = [[] for _ in range(1 + max(map(len, self._resets.values()), default=0))]
        for event, life in zip(self._events, self._lives, strict=True):
            lives[life].append(event)
        return lives

    def timelines(self) -> dict[str, list[Instant]]:
        """Each entity's instants in order of time, including those before a reset."""
        return _timelines(self._events)

    def fuse(self, updater: Updater) -> Iterator[Fused]:
        """Yield every posterior of every entity, in order of time for each entity between its resets."""
        sequences: dict[str, int] = defaultdict(int)
        priors: dict[str, int] = defaultdict(int)
        for life, events in enumerate(self._by_life()):
            for entity, resets in self._resets.items():
                if 0 < life <= len(resets):
                    sequences[entity] += 1
                    model = self._model(entity)
                    outcome = model.initial(resets[life - 1].time)
                    yield Fused(entity, model, outcome, sequences[entity], priors[entity], [])
            yield from self._fuse_life(events, updater, sequences, priors)

    def _fuse_life(
        self, events: list[Event], updater: Updater, sequences: dict[str, int], priors: dict[str, int]
    ) -> Iterator[Fused]:
        remaining = {entity: iter(timeline) for entity, timeline in _timelines(events).items()}
        for entity, outcome in replay(events, lambda name: self._model(name).state, updater):
            instant = next(remaining[entity])
            while not instant.informs:
                sequences[entity] += len(instant.labels)
                instant = next(remaining[entity])
            sequences[entity] += len(instant.labels)
            priors[entity] += instant.prior is not None
            names = [self._names[label] for label in sorted(instant.labels)]
            applied = [name for name in names if name]
            yield Fused(entity, self._model(entity), outcome, sequences[entity], priors[entity], applied)
        for entity, rest in remaining.items():
            sequences[entity] += sum(len(instant.labels) for instant in rest)

    def _model(self, entity: str) -> EntityModel:
        model = self._definitions.model_for(entity)
        if model is None:  # an event without a model was refused when it was added
            raise KeyError(entity)
        return model


def _timelines(events: list[Event]) -> dict[str, list[Instant]]:
    """Each entity's instants in order of time; each one that informs will give one posterior."""
    by_entity: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_entity[event.entity].append(event)
    return {entity: instants(of) for entity, of in by_entity.items()}


def _glance(raw: bytes) -> tuple[bytes | None, bool]:
    """Return the key the message would have on its topic, and whether that is the priors topic.

    The validator checks the rest.
    """
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None, False
    if not isinstance(content, dict):
        return None, False
    entity = content.get("entity")
    return entity.encode() if isinstance(entity, str) else None, "mixture" in content or "reset" in content
