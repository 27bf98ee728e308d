"""Fusing a log without Kafka: the same intake as a worker's, the same filter, the same posteriors."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

from inference.events import Event, Instant, instants
from inference.filtering import Outcome, replay
from inference.update import Updater
from schemas import Model, Sensor, parse, parse_sensor
from streams.intake import Intake
from streams.registry import Definitions, EntityModel
from streams.settings import Settings


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
        """As `schemas.Posterior` reads it."""
        return self.model.writer.write(
            self.entity, self.outcome, self.sequence, self.prior_sequence, self.applied
        )


class Log:
    """Observations and priors of any number of entities, in any order, and the definitions they need.

    Definitions come first: what is added is checked against those there are by then.

    Args:
        maximum_message_bytes: longer messages are refused.
        future_tolerance: seconds that a live time may be ahead of the clock.
    """

    def __init__(
        self, maximum_message_bytes: int | None = None, future_tolerance: float | None = None
    ) -> None:
        defaults = Settings.model_fields
        self._definitions = Definitions("sensors", "models")
        self._intake = Intake(
            self._definitions,
            maximum_message_bytes or defaults["maximum_message_bytes"].default,
            future_tolerance if future_tolerance is not None else defaults["future_tolerance"].default,
        )
        self._events: list[Event] = []
        self._names: list[str] = []  # by the events' labels; of a prior it is empty

    @property
    def observations(self) -> int:
        """How many there are."""
        return sum(event.prior is None for event in self._events)

    @property
    def priors(self) -> int:
        """How many there are."""
        return len(self._events) - self.observations

    def define_sensor(self, definition: Sensor | bytes) -> None:
        """Define a sensor or replace its definition; raises Unusable if the JSON is not one."""
        sensor = parse_sensor(definition) if isinstance(definition, bytes) else definition
        self._definitions.sensors[sensor.sensor] = sensor

    def define_model(self, definition: Model | bytes) -> None:
        """Define a model or replace it; raises Unusable if the JSON is not one."""
        model = parse(Model, definition) if isinstance(definition, bytes) else definition
        self._definitions.models[model.entity] = EntityModel(model)

    def add(self, raw: bytes, place: str = "") -> None:
        """Add an observation or, if it has a mixture, a prior.

        Args:
            raw: JSON.
            place: names the observation in posteriors if it has no id.

        Raises:
            Unusable: it is neither, or does not fit the definitions; nothing was added.
        """
        key, is_prior = _glance(raw)
        now, label = time.time(), len(self._events)
        if is_prior:
            (_, event), name = self._intake.prior(key, raw, now), ""
        else:
            message, event = self._intake.observation(key, raw, now)
            name = message.id or place if event.control is None else ""
        self._events.append(replace(event, label=label))
        self._names.append(name)

    def timelines(self) -> dict[str, list[Instant]]:
        """Each entity's instants in order of time; one posterior will come of each that informs."""
        events: dict[str, list[Event]] = defaultdict(list)
        for event in self._events:
            events[event.entity].append(event)
        return {entity: instants(of) for entity, of in events.items()}

    def fuse(self, updater: Updater) -> Iterator[Fused]:
        """Every posterior of every entity, each entity's in order of time."""
        remaining = {entity: iter(timeline) for entity, timeline in self.timelines().items()}
        sequences: dict[str, int] = defaultdict(int)
        priors: dict[str, int] = defaultdict(int)
        for entity, outcome in replay(self._events, lambda name: self._model(name).state, updater):
            instant = next(remaining[entity])
            while not instant.informs:
                sequences[entity] += len(instant.labels)
                instant = next(remaining[entity])
            sequences[entity] += len(instant.labels)
            priors[entity] += instant.prior is not None
            names = [self._names[label] for label in sorted(instant.labels)]
            applied = [name for name in names if name]
            yield Fused(entity, self._model(entity), outcome, sequences[entity], priors[entity], applied)

    def _model(self, entity: str) -> EntityModel:
        model = self._definitions.model_for(entity)
        if model is None:  # an event without a model was refused when it came
            raise KeyError(entity)
        return model


def _glance(raw: bytes) -> tuple[bytes | None, bool]:
    """The key that the message would have on its topic, and whether it is a prior; the intake judges the rest."""
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None, False
    if not isinstance(content, dict):
        return None, False
    entity = content.get("entity")
    return entity.encode() if isinstance(entity, str) else None, "mixture" in content
