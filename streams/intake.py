"""From the bytes of a record to an event of the filter, or a reason why not.

Nothing here touches a belief: what cannot be used costs a dead letter and nothing else.
"""

from __future__ import annotations

import math

from inference.events import Event
from schemas import ControlSensor, Observation, Prior, Reason, Sensor, Unusable, parse
from streams.conversion import prior_change, reading_of
from streams.conversion_controls import control_of
from streams.plausibility import Bounds, bounds_of, check_possible
from streams.registry import Definitions, EntityModel


class Intake:
    """Validates records against the definitions in force.

    Args:
        maximum_bytes: longer values are refused before they are parsed.
        future_tolerance: seconds that a live time may be ahead of the clock.
    """

    def __init__(self, definitions: Definitions, maximum_bytes: int, future_tolerance: float) -> None:
        self._definitions = definitions
        self._bounds: dict[str, tuple[Sensor, tuple[Bounds, ...]]] = {}
        self._maximum_bytes, self._future_tolerance = maximum_bytes, future_tolerance

    def observation(self, key: bytes | None, value: bytes | None, now: float) -> tuple[Observation, Event]:
        """The message and its event; raises Unusable."""
        self._size(value)
        message = parse(Observation, value)
        _own_key(message.entity, key)
        model = self._model(message.entity)
        sensor = self._definitions.sensors.get(message.sensor)
        if sensor is None:
            raise Unusable(Reason.unknown_sensor, f"sensor: no definition of {message.sensor!r}")
        self._time(message.time, model, now)
        if isinstance(sensor, ControlSensor):
            control = control_of(message, sensor, model.message)
            return message, Event(message.entity, message.time, control=control)
        reading = reading_of(message, model.sensor(sensor))
        check_possible(message, sensor, self._bounds_of(sensor))
        return message, Event(message.entity, message.time, reading=reading)

    def prior(self, key: bytes | None, value: bytes | None, now: float) -> tuple[Prior, Event]:
        """The message of a stated prior and its event; raises Unusable."""
        self._size(value)
        message = parse(Prior, value)
        _own_key(message.entity, key)
        model = self._model(message.entity)
        self._time(message.time, model, now)
        change = prior_change(message, model.message.coordinate_names)
        return message, Event(message.entity, message.time, prior=change)

    def _bounds_of(self, sensor: Sensor) -> tuple[Bounds, ...]:
        known = self._bounds.get(sensor.sensor)
        if known is None or known[0] is not sensor:
            known = self._bounds[sensor.sensor] = sensor, bounds_of(sensor)
        return known[1]

    def _size(self, value: bytes | None) -> None:
        if value is not None and len(value) > self._maximum_bytes:
            raise Unusable(
                Reason.too_large, f"message: {len(value)} bytes, more than {self._maximum_bytes} are not read"
            )

    def _model(self, entity: str) -> EntityModel:
        model = self._definitions.model_for(entity)
        if model is None:
            raise Unusable(Reason.unknown_entity, f"entity: no model of {entity!r} and none for *")
        return model

    def _time(self, time: float, model: EntityModel, now: float) -> None:
        if (complaint := model.message.motion.complaint(time)) is not None:
            raise Unusable(Reason.invalid_time, f"time: {complaint}")
        if model.message.live_time and time > now + self._future_tolerance:
            ahead = time - now if math.isfinite(time) else math.inf
            raise Unusable(
                Reason.future,
                f"time: {time} is {ahead:.0f} s ahead of the clock, more than {self._future_tolerance:.0f}",
            )


def _own_key(entity: str, key: bytes | None) -> None:
    if key is None or key != entity.encode():
        shown = None if key is None else key[:80].decode(errors="replace")
        raise Unusable(Reason.key_mismatch, f"entity: {entity!r} is not the record's key {shown!r}")
