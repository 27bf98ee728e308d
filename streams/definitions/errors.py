"""Errors of sensors that last: which ones a definition states, and which ones the sensors of a device share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from beliefstream.inference import sensors as measurement
from beliefstream.inference.sensors import Gain, PersistentError, Sensor
from beliefstream.inference.sensors.persistent import require_room
from beliefstream.schemas import (
    GeodeticSensor,
    LinearSensor,
    PositionSensor,
    Reason,
    Sensor as SensorMessage,
    SignalStrengthSensor,
    Unusable,
)
from beliefstream.schemas.base import Message
from beliefstream.schemas.sensors.base import Lasting, LastingError, Scalable, Shared

Stated = tuple[PersistentError, Gain | None]


def with_errors(found: Sensor, sensor: SensorMessage) -> Sensor:
    """Add the errors that last to the measurement model of a sensor."""
    stated = _stated(sensor)
    if not any(stated):
        return found
    require_room(error for errors in stated for error, _ in errors)
    if found.parts:
        parts = zip(found.parts, stated, strict=True)
        return replace(found, parts=tuple(_with(part, 0, errors) for part, errors in parts))
    for row, errors in enumerate(stated):
        found = _with(found, row, errors)
    return found


def _with(found: Sensor, row: int, errors: Sequence[Stated]) -> Sensor:
    for error, gain in errors:
        found = measurement.with_errors(found, error, row=row, gain=gain)
    return found


def _stated(sensor: SensorMessage) -> list[list[Stated]]:
    """The errors that last of each reported number."""
    if not isinstance(sensor, Shared):
        return []
    return [list(_of_one(sensor, name, part)) for name, part in _numbers(sensor)]


def _numbers(sensor: SensorMessage) -> list[tuple[str, Message]]:
    """The name of each reported number, and the definition that states its errors."""
    parts: dict[str, Message] = dict(sensor.parts)
    if not parts:
        names: list[str] = [sensor.kind]
        if isinstance(sensor, (PositionSensor, GeodeticSensor)):
            names = list(sensor.coordinates)
        elif isinstance(sensor, LinearSensor) or getattr(sensor, "outputs", None) is not None:
            names = [f"{sensor.kind}/{number}" for number in range(sensor.value_length)]
        parts = dict.fromkeys(names, sensor)
    return list(parts.items())


def _of_one(sensor: Shared, number: str, stated: Message) -> Iterator[Stated]:
    """The errors that last of one number that a sensor reports, as `stated`."""

    def name(error: LastingError) -> str:
        kind = "" if error == "persistent" else f"/{error}"
        return f"{sensor.owner_of(error)}/{number}{kind}"

    if isinstance(stated, Lasting) and stated.persistent_deviation is not None:
        assert stated.correlation_time is not None
        yield PersistentError(name("persistent"), stated.persistent_deviation, stated.correlation_time), None
    if isinstance(stated, Lasting) and stated.bias_deviation is not None:
        yield PersistentError(name("bias"), stated.bias_deviation), None
    if isinstance(stated, Scalable) and stated.scale_deviation is not None:
        yield PersistentError(name("scale"), stated.scale_deviation), Gain()
    if isinstance(stated, SignalStrengthSensor) and stated.exponent_deviation is not None:
        gain = Gain(stated.reference_power, 1 / stated.exponent)
        yield PersistentError(name("exponent"), stated.exponent_deviation), gain


class Devices:
    """The errors that sensors share: those of one name, of sensors of a device, or of one with the device's name."""

    def __init__(self) -> None:
        self._stated: dict[str, dict[str, PersistentError]] = defaultdict(dict)  # by error, then by sensor
        self._names: dict[str, list[str]] = {}  # of the errors of each sensor

    def add(self, sensor: SensorMessage) -> None:
        """Add or replace a sensor; raises Unusable if another one has other numbers for an error."""
        errors = [error for each in _stated(sensor) for error, _ in each]
        for error in errors:
            for other, known in self._stated.get(error.name, {}).items():
                if other != sensor.sensor and known != error:
                    raise Unusable(
                        Reason.invalid_definition,
                        f"device: {other} has {_words(known)} for {error.name}, and {sensor.sensor} has "
                        f"{_words(error)}; state the same, or give it another device",
                    )
        self.remove(sensor.sensor)
        for error in errors:
            self._stated[error.name][sensor.sensor] = error
        if errors:
            self._names[sensor.sensor] = [error.name for error in errors]

    def remove(self, sensor: str) -> None:
        """Remove a sensor, if it is there."""
        for name in self._names.pop(sensor, ()):
            del self._stated[name][sensor]
            if not self._stated[name]:
                del self._stated[name]


def _words(error: PersistentError) -> str:
    lasts = (
        ""
        if math.isinf(error.correlation_time)
        else f" and a correlation time of {error.correlation_time:g} s"
    )
    return f"a deviation of {error.deviation:g}{lasts}"
