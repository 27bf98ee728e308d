"""Turns the bytes of a record into an event for the filter, or raises Unusable with the reason.

Nothing here changes a belief: an unusable message only costs a dead letter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import (
    ControlSensor,
    Observation,
    Prior,
    Reason,
    Reset,
    Unusable,
    parse,
    parse_stated,
)
from beliefstream.schemas.base import check_size
from beliefstream.schemas.time import unit_hint
from beliefstream.streams.definitions.controls import control_of
from beliefstream.streams.definitions.conversion import prior_change, reading_of
from beliefstream.streams.definitions.per_sensor import PerSensor
from beliefstream.streams.definitions.plain_observations import AnyObservation, plain_observation
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.state.expiry import EventClock
from beliefstream.streams.worker.plausibility import bounds_of, check_possible


class ReferenceClock(NamedTuple):
    """Clocks that a message's time may not be far ahead of.

    Attributes:
        now: wall clock, seconds since the epoch; infinity for no limit.
        is_stored: whether `now` is when the broker stored the record, not when the worker reads it.
        clock: the event time of the partition; None for no limit.
        known: an earlier reading of that event time, used until the clock has one.
    """

    now: float
    is_stored: bool = False
    clock: EventClock | None = None
    known: float = -math.inf


class Validator:
    """Validates records against the definitions in force.

    Args:
        maximum_bytes: longer values are refused before they are parsed.
        future_tolerance: seconds that a time may be ahead of the wall clock, for models with `live_time`.
        event_tolerance: seconds that a time may be ahead of its partition's event time, for other models.
    """

    def __init__(
        self,
        definitions: Definitions,
        maximum_bytes: int,
        future_tolerance: float,
        event_tolerance: float = math.inf,
    ) -> None:
        self._definitions = definitions
        self._bounds = PerSensor(bounds_of, definitions.sensors)
        self._maximum_bytes = maximum_bytes
        self._future_tolerance, self._event_tolerance = future_tolerance, event_tolerance

    def observation(
        self, key: bytes | None, value: bytes | None, now: float | ReferenceClock
    ) -> tuple[AnyObservation, Event]:
        """Return the observation and its event; raises Unusable."""
        check_size(value, self._maximum_bytes)
        plain = plain_observation(value) if value is not None else None
        message = plain or parse(Observation, value)
        _check_key(message.entity, key)
        model = self._model(message.entity)
        sensor = self._definitions.sensors.get(message.sensor)
        if sensor is None:
            raise Unusable(Reason.unknown_sensor, f"sensor: no definition of {message.sensor!r}")
        reference = now if isinstance(now, ReferenceClock) else ReferenceClock(now)
        self._check_time(message.time, model, reference)
        if reference.clock is not None and not model.message.live_time:
            self._check_event_time(message.time, reference.clock, reference.known)
        if isinstance(sensor, ControlSensor):
            control = control_of(message, sensor, model.message)
            return message, Event(message.entity, message.time, control=control)
        reading = reading_of(message, model.sensor(sensor))
        check_possible(message, sensor, self._bounds.of(sensor))
        return message, Event(message.entity, message.time, reading=reading)

    def prior(
        self, key: bytes | None, value: bytes | None, now: float | ReferenceClock
    ) -> tuple[Prior, Event]:
        """Return the prior and its event; raises Unusable."""
        check_size(value, self._maximum_bytes)
        return self._prior(parse(Prior, value), key, now)

    def prior_or_reset(
        self, key: bytes | None, value: bytes | None, now: float | ReferenceClock
    ) -> tuple[Prior, Event] | tuple[Reset, None]:
        """Return a message of the priors topic: a prior with its event, or a reset; raises Unusable."""
        check_size(value, self._maximum_bytes)
        message = parse_stated(value)
        if isinstance(message, Prior):
            return self._prior(message, key, now)
        _check_key(message.entity, key)
        model = self._model(message.entity)
        self._check_clock(
            message.time, model, now if isinstance(now, ReferenceClock) else ReferenceClock(now)
        )
        return message, None

    def _prior(self, message: Prior, key: bytes | None, now: float | ReferenceClock) -> tuple[Prior, Event]:
        _check_key(message.entity, key)
        model = self._model(message.entity)
        self._check_time(message.time, model, now if isinstance(now, ReferenceClock) else ReferenceClock(now))
        change = prior_change(message, model.message.coordinate_names)
        return message, Event(message.entity, message.time, prior=change)

    def _model(self, entity: str) -> EntityModel:
        model = self._definitions.model_for(entity)
        if model is None:
            raise Unusable(Reason.unknown_entity, f"entity: no model of {entity!r} and none for *")
        return model

    def _check_time(self, time: float, model: EntityModel, reference: ReferenceClock) -> None:
        if (complaint := model.message.motion.complaint(time)) is not None:
            raise Unusable(Reason.invalid_time, f"time: {complaint}")
        self._check_clock(time, model, reference)

    def _check_clock(self, time: float, model: EntityModel, reference: ReferenceClock) -> None:
        """Check that a live time is neither far ahead of the clock nor before 1970."""
        if not model.message.live_time or reference.now == math.inf:
            return
        if time < 0:
            raise Unusable(
                Reason.invalid_time,
                f"time: {time} is before 1970; a model of such data needs live_time: false",
            )
        if time > reference.now + self._future_tolerance:
            whose = (
                "the broker's clock when it stored the record"
                if reference.is_stored
                else "the worker's clock"
            )
            limit = f"BELIEFSTREAM_FUTURE_TOLERANCE, {self._future_tolerance:g} s"
            raise Unusable(Reason.future, _ahead(time, reference.now, whose, limit))

    def _check_event_time(self, time: float, clock: EventClock, known: float) -> None:
        """Check that the time is not far ahead of the partition's event time, if that is known."""
        now = max(clock.now, known)
        # also note refused times: event time must advance after the whole partition was silent
        clock.note((time,))
        if now > -math.inf and time > now + self._event_tolerance:
            limit = f"BELIEFSTREAM_EVENT_TOLERANCE, {self._event_tolerance:g} s"
            raise Unusable(Reason.future, _ahead(time, now, "the event time of its partition", limit))


def _ahead(time: float, now: float, whose: str, limit: str) -> str:
    hint = f"; it {hint}" if (hint := unit_hint(time)) else ""
    return f"time: {time} is {time - now:.6g} s ahead of {whose} ({now:.3f}), more than {limit}{hint}"


def _check_key(entity: str, key: bytes | None) -> None:
    if key is None or key != entity.encode():
        found = None if key is None else key[:80].decode(errors="replace")
        raise Unusable(Reason.key_mismatch, f"entity: {entity!r} is not the record's key {found!r}")
