"""Processes a log without Kafka, with the validation, the filter and the posteriors of a worker."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from msgspec.structs import replace

from beliefstream.inference.tracking.events import Event, Instant, instants
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.tracking.health.columns import Array
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Model, Prior, Reset, Sensor, parse, parse_sensor
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.entity_batch import NOT_FINITE
from beliefstream.streams.worker.rounds import are_sound
from beliefstream.streams.worker.validation import Validator


@dataclass(frozen=True, eq=False)
class Fused:
    """One posterior, as a worker would send it; `applied` names its new observations."""

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


class Judged(NamedTuple):
    """How an observation fits its prediction: ``(channels, len(Fit))``, see `inference.tracking.health.columns`."""

    entity: str
    sensor: str
    time: float
    fits: Array


class _Added(NamedTuple):
    """An event whose label is its place in the log."""

    event: Event
    name: str  # what posteriors call it; empty for a prior or a control
    sensor: str  # empty for a prior
    resets: int  # of its entity before it


class Log:
    """A log: definitions, and observations and priors of any number of entities in any order.

    Add definitions first, because each message is checked against the current definitions. A reset makes the entity
    start from its model's prior again: messages added before it do not affect later posteriors. Of observations of an
    entity with the same id and time, only the first counts.

    Args:
        maximum_message_bytes: longer messages are rejected.
        future_tolerance: longest time that a message may be ahead of the clock if the model has `live_time`, in
            seconds.
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
        self._added: list[_Added] = []
        self.repeated = 0  # observations left out, because their entity has one with the same id and time
        self._identified: set[tuple[str, int, float, str]] = set()  # entity, earlier resets, time, id
        self.failed: list[str] = []  # messages left out by `fuse`, because the posterior was not finite
        self._resets: dict[str, list[Reset]] = defaultdict(list)

    @property
    def observations(self) -> int:
        """Number of observations."""
        return sum(each.event.prior is None for each in self._added)

    @property
    def priors(self) -> int:
        """Number of priors."""
        return len(self._added) - self.observations

    @property
    def resets(self) -> int:
        """Number of resets; several with the same id count once."""
        return sum(map(len, self._resets.values()))

    @property
    def posteriors(self) -> int:
        """Number of posteriors that `fuse` will return."""
        timelines = (timeline for events in self._by_period() for timeline in _timelines(events).values())
        return self.resets + sum(instant.informs for timeline in timelines for instant in timeline)

    @property
    def entities(self) -> int:
        """Number of entities with posteriors."""
        return len({each.event.entity for each in self._added} | self._resets.keys())

    def define_sensor(self, definition: Sensor | bytes) -> Sensor:
        """Define or replace a sensor, and return it.

        Raises Unusable if the JSON is not a valid sensor, or if it shares an error with another, and states other
        numbers.
        """
        sensor = parse_sensor(definition) if isinstance(definition, bytes) else definition
        self._definitions.define(sensor)
        return sensor

    def define_model(self, definition: Model | bytes) -> Model:
        """Define or replace a model, and return it; raises Unusable if the JSON is not a valid model."""
        model = parse(Model, definition) if isinstance(definition, bytes) else definition
        self._definitions.models[model.entity] = EntityModel(model)
        return model

    def add(self, raw: bytes, default_id: str = "") -> None:
        """Add an observation, a prior (a message with a mixture) or a reset (a message with a field `reset`), as JSON.

        Posteriors name an observation without an id by `default_id`.

        Raises:
            Unusable: it is none of these, or does not fit the definitions; nothing was added.
        """
        key, is_stated = _key_and_topic(raw)
        now = time.time()
        if is_stated:
            stated, change = self._validator.prior_or_reset(key, raw, now)
            if isinstance(stated, Prior):
                assert change is not None
                self._add(change, "", "")
            elif stated.id is None or all(stated.id != other.id for other in self._resets[stated.entity]):
                self._resets[stated.entity].append(stated)
            return
        message, event = self._validator.observation(key, raw, now)
        if message.id is not None and self._repeats(event, message.id):
            return
        name = message.id or default_id if event.control is None else ""
        self._add(event, name, message.sensor)

    def _add(self, event: Event, name: str, sensor: str) -> None:
        resets = len(self._resets.get(event.entity, ()))
        self._added.append(_Added(replace(event, label=len(self._added)), name, sensor, resets))

    def _repeats(self, event: Event, id: str) -> bool:
        """Note the observation, and return whether it came before, as a worker decides it."""
        this = (event.entity, len(self._resets.get(event.entity, ())), event.time, id)
        is_repeated = this in self._identified
        self.repeated += is_repeated
        self._identified.add(this)
        return is_repeated

    def _by_period(self) -> list[list[Event]]:
        """Split the events by resets: before the first reset of their entity, before the second, and so on."""
        count = 1 + max(map(len, self._resets.values()), default=0)
        periods: list[list[Event]] = [[] for _ in range(count)]
        for each in self._added:
            periods[each.resets].append(each.event)
        return periods

    def timelines(self) -> dict[str, list[Instant]]:
        """Return each entity's instants in order of time, including those before a reset."""
        return _timelines([each.event for each in self._added])

    def fuse(self, updater: Updater) -> Iterator[Fused]:
        """Yield every posterior of every entity; between two resets, those of one entity are in order of time."""
        sequences: dict[str, int] = defaultdict(int)
        priors: dict[str, int] = defaultdict(int)
        for period, events in enumerate(self._by_period()):
            for entity, resets in self._resets.items():
                if 0 < period <= len(resets):
                    sequences[entity] += 1
                    model = self.model(entity)
                    outcome = model.initial(resets[period - 1].time)
                    yield Fused(entity, model, outcome, sequences[entity], priors[entity], [])
            yield from self._fuse_period(events, updater, sequences, priors)

    def require_no_failure(self) -> None:
        """Raise ValueError if `fuse` has left out a message; the error names the first."""
        if self.failed:
            raise ValueError(f"{self.failed[0]}: {NOT_FINITE}")

    def fits(self, updater: Updater) -> Iterator[Judged]:
        """Yield how each observation fits its prediction; leaves out instants whose posterior is not finite."""
        for events in self._by_period():
            for entity, instant, outcome in self._replayed(events, updater, with_fits=True):
                start = 0
                for label, reading in zip(instant.labels, instant.readings, strict=False):
                    end = start + reading.sensor.value_length
                    assert outcome.fits is not None
                    sensor = self._added[label].sensor
                    yield Judged(entity, sensor, instant.time, outcome.fits[start:end])
                    start = end

    def _fuse_period(
        self, events: list[Event], updater: Updater, sequences: dict[str, int], priors: dict[str, int]
    ) -> Iterator[Fused]:
        def note(entity: str, instant: Instant, is_sound: bool) -> None:
            if is_sound:
                sequences[entity] += len(instant.labels)
            else:
                names = (self._added[label].name for label in sorted(instant.labels))
                self.failed += [name or f"prior of {entity}" for name in names]

        for entity, instant, outcome in self._replayed(events, updater, note):
            priors[entity] += instant.prior is not None
            applied = [name for label in sorted(instant.labels) if (name := self._added[label].name)]
            yield Fused(entity, self.model(entity), outcome, sequences[entity], priors[entity], applied)

    def _replayed(
        self,
        events: list[Event],
        updater: Updater,
        note: Callable[[str, Instant, bool], None] = lambda *_: None,
        with_fits: bool = False,
    ) -> Iterator[tuple[str, Instant, Outcome]]:
        """Yield what `replay` does, with the instants; `note` gets every instant, and whether its belief is finite."""
        newest: dict[str, Instant] = {}

        def accept(entity: str, instant: Instant, outcome: Outcome) -> bool:
            newest[entity], is_sound = instant, bool(are_sound([outcome])[0])
            note(entity, instant, is_sound)
            return is_sound

        outcomes = replay(
            events, lambda name: self.model(name).state, updater, with_fits=with_fits, accept=accept
        )
        for entity, outcome in outcomes:
            yield entity, newest[entity], outcome

    def model(self, entity: str) -> EntityModel:
        """Return the model of an entity that the log has events of."""
        model = self._definitions.model_for(entity)
        assert model is not None  # a message without one was rejected when it was added
        return model


def _timelines(events: list[Event]) -> dict[str, list[Instant]]:
    """Return each entity's instants in order of time; each instant with information gives one posterior."""
    by_entity: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        by_entity[event.entity].append(event)
    return {entity: instants(entity_events) for entity, entity_events in by_entity.items()}


def _key_and_topic(raw: bytes) -> tuple[bytes | None, bool]:
    """Return the key that the message would have on its topic, and whether that is the topic of priors.

    The validator checks the content.
    """
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None, False
    if not isinstance(content, dict):
        return None, False
    entity = content.get("entity")
    return entity.encode() if isinstance(entity, str) else None, "mixture" in content or "reset" in content
