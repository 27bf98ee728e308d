"""Turns the bytes of a record into an event for the filter, or raises Unusable with the reason.

Nothing here changes a belief: an unusable message only costs a dead letter.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import (
    Channel,
    ControlSensor,
    Observation,
    Prior,
    Reason,
    Reset,
    Sensor,
    TimeDifferenceSensor,
    TimeDifferencesSensor,
    UniformClutter,
    Unusable,
    parse,
    parse_stated,
)
from beliefstream.schemas.base import check_size
from beliefstream.schemas.sensors.directions import Turning
from beliefstream.schemas.sensors.distances import Length
from beliefstream.schemas.time import unit_hint
from beliefstream.streams.definitions.models import prior_change
from beliefstream.streams.definitions.observations import (
    AnyObservation,
    control_of,
    plain_observation,
    reading_of,
)
from beliefstream.streams.definitions.reader import Definitions, EntityModel, PerSensor
from beliefstream.streams.state.expiry import EventClock

DEVIATIONS = 10.0  # standard deviations of the noise by which a report may exceed the sensor's range
LENGTH = "a length cannot be negative"
DELAY = "the signal takes no longer than this between the receivers"


class Bounds(NamedTuple):
    """The lowest and the highest number that a sensor may report, and the reason."""

    low: float
    high: float
    why: str

    def hold(self, value: float) -> bool:
        """Whether the number is possible."""
        return self.low <= value <= self.high


def bounds_of(sensor: Sensor, deviations: tuple[float, ...] = ()) -> tuple[Bounds, ...]:
    """Return the bounds of each number that the sensor reports; empty if any number is possible.

    | sensor | possible values |
    |---|---|
    | range, speed | not negative |
    | angles | at most `maximum_turns` turns, in either direction |
    | time differences | at most the travel time of the signal between the receivers |
    | others | any number |

    The bounds apply to the reported number. So they include the calibration, the bias and width of the noise's
    components, and clutter. There is no bound if the noise grows so fast with the value that any number is possible.

    Args:
        deviations: standard deviations given with an observation; the greater of these and the sensor's are used.
    """
    if isinstance(sensor, TimeDifferencesSensor):
        return _delays(sensor, deviations)
    channels = tuple(sensor.parts.values()) or ((sensor,) if isinstance(sensor, Channel) else ())
    limits = [_observed(channel, sensor) for channel in channels]
    own = deviations or (0.0,) * len(channels)
    return tuple(
        _reported(channel, limit, deviation)
        for channel, limit, deviation in zip(channels, limits, own, strict=True)
        if limit is not None
    )


def _observed(channel: Channel, sensor: Sensor) -> Bounds | None:
    """The bounds of the quantity that the sensor observes there; None if it may be any number."""
    if isinstance(channel, Length):
        return Bounds(0.0, math.inf, LENGTH)
    if isinstance(sensor, Turning):
        most = sensor.maximum_turns
        why = f"at most {most:g} turns (maximum_turns), in radians unless scaled; degrees need a scale of 180/pi"
        return Bounds(-most * math.tau, most * math.tau, why)
    if isinstance(sensor, TimeDifferenceSensor):
        most = math.dist(sensor.first, sensor.second) / sensor.propagation_speed
        return Bounds(-most, most, DELAY)
    return None


def _delays(sensor: TimeDifferencesSensor, own: tuple[float, ...]) -> tuple[Bounds, ...]:
    reference, *others = sensor.receivers
    if sensor.covariance is not None:
        stated = [math.sqrt(row[place]) for place, row in enumerate(sensor.covariance)]
    else:
        each = sensor.standard_deviation
        first, *rest = each if isinstance(each, tuple) else (each,) * len(sensor.receivers)
        stated = [math.hypot(first or 0.0, deviation or 0.0) for deviation in rest]
    found = []
    for place, deviation, mine in zip(others, stated, own or (0.0,) * len(others), strict=True):
        most = math.dist(reference, place) / sensor.propagation_speed + DEVIATIONS * max(deviation, mine)
        found.append(Bounds(-most, most, DELAY))
    return tuple(found)


def check_possible(observation: AnyObservation, sensor: Sensor, bounds: tuple[Bounds, ...]) -> None:
    """Raise Unusable (`impossible`) if a number of the observation is outside the sensor's `bounds`."""
    if not bounds:
        return
    value = observation.value
    if isinstance(value, float) and bounds[0].hold(value):  # nearly always
        return
    values = observation.values
    if all(bound.hold(value) for bound, value in zip(bounds, values, strict=True)):
        return
    bounds = bounds_of(sensor, _own_deviations(observation))
    for index, (bound, value) in enumerate(zip(bounds, values, strict=True)):
        if not bound.hold(value):
            field = f"value[{index}]" if len(values) > 1 else "value"
            side = f"below {bound.low:.6g}" if value < bound.low else f"above {bound.high:.6g}"
            raise Unusable(
                Reason.impossible,
                f"{field}: {value} is {side}, which {observation.sensor} cannot report even with {DEVIATIONS:g} "
                f"standard deviations of its noise: {bound.why}",
            )


def _own_deviations(observation: AnyObservation) -> tuple[float, ...]:
    """The standard deviations given with the observation, one for each number; empty for none."""
    stated, covariance = observation.standard_deviation, observation.covariance
    if covariance is not None:
        return tuple(math.sqrt(row[place]) for place, row in enumerate(covariance))
    if stated is None:
        return ()
    return stated if isinstance(stated, tuple) else (stated,) * len(observation.values)


def _reported(channel: Channel, observed: Bounds, own: float) -> Bounds:
    """The bounds of the reported number, from those of the observed quantity."""
    first, last = sorted((channel.scale * observed.low, channel.scale * observed.high))
    deviation = max(own, channel.standard_deviation)
    low = _stretched(channel, deviation, first, last, -1)
    high = _stretched(channel, deviation, last, first, 1)
    for law in channel.noise.clutter if channel.noise is not None else ():
        first, last = (law.low, law.high) if isinstance(law, UniformClutter) else (0.0, math.inf)
        low, high = min(low, first), max(high, last)
    return Bounds(low, high, observed.why)


def _stretched(channel: Channel, deviation: float, end: float, other: float, side: int) -> float:
    """The furthest report to one side (-1 or 1), if `scale · h` is between `end`, on that side, and `other`."""
    if math.isinf(end):
        return end
    parts, slope = [(0.0, 1.0)], 0.0
    if channel.noise is not None:
        slope = channel.noise.slope
        parts = [(each.bias, each.ratio) for each in channel.noise.components] or parts
    if math.isinf(other) and DEVIATIONS * slope * max(ratio for _, ratio in parts) > 1:
        return side * math.inf  # the noise grows faster than the value
    margins = [side * bias + DEVIATIONS * ratio * (deviation + slope * abs(end)) for bias, ratio in parts]
    return end + channel.bias + side * max(margins)


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

    def prior_or_reset(
        self, key: bytes | None, value: bytes | None, now: float | ReferenceClock
    ) -> tuple[Prior, Event] | tuple[Reset, None]:
        """Return a message of the priors topic: a prior with its event, or a reset; raises Unusable."""
        check_size(value, self._maximum_bytes)
        message = parse_stated(value)
        _check_key(message.entity, key)
        model = self._model(message.entity)
        reference = now if isinstance(now, ReferenceClock) else ReferenceClock(now)
        if isinstance(message, Reset):
            self._check_clock(message.time, model, reference)
            return message, None
        self._check_time(message.time, model, reference)
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
            stored = "the broker's clock when it stored the record"
            whose = stored if reference.is_stored else "the worker's clock"
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
    if key is None:
        raise Unusable(Reason.key_mismatch, f"entity: {entity!r} must be the record's key; it has none")
    if key != entity.encode():
        found = key[:80].decode(errors="replace")
        raise Unusable(Reason.key_mismatch, f"entity: {entity!r} is not the record's key {found!r}")
