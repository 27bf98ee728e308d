"""Finds values that a sensor cannot report in any state, even with ten standard deviations of its noise.

| sensor | possible values |
|---|---|
| range, speed | not negative |
| angles | at most `maximum_turns` turns, in either direction |
| time differences | at most the travel time of the signal between the receivers |
| others | any number |

The bounds apply to the reported number. So they include the calibration, the bias and width of the noise's components,
and clutter. There is no bound if the noise grows so fast with the value that any number is possible.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.schemas import (
    AzimuthElevationSensor,
    BearingSensor,
    Channel,
    CourseSensor,
    HeadingSensor,
    RangeAzimuthElevationSensor,
    RangeBearingSensor,
    RangeRelativeBearingSensor,
    RangeSensor,
    Reason,
    RelativeBearingSensor,
    Sensor,
    SpeedSensor,
    TimeDifferenceSensor,
    TimeDifferencesSensor,
    UniformClutter,
    Unusable,
)
from beliefstream.streams.definitions.plain_observations import AnyObservation

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

    Args:
        deviations: standard deviations given with an observation; the greater of these and the sensor's are used.
    """
    if isinstance(sensor, TimeDifferencesSensor):
        return _delays(sensor, deviations)
    parts: list[tuple[Channel, float, float, str]]
    match sensor:
        case RangeSensor() | SpeedSensor():
            parts = [(sensor, 0.0, math.inf, LENGTH)]
        case TimeDifferenceSensor():
            most = math.dist(sensor.first, sensor.second) / sensor.propagation_speed
            parts = [(sensor, -most, most, DELAY)]
        case BearingSensor() | RelativeBearingSensor() | HeadingSensor() | CourseSensor():
            parts = [(sensor, *_turns(sensor.maximum_turns))]
        case RangeBearingSensor() | RangeRelativeBearingSensor():
            turns = _turns(sensor.maximum_turns)
            parts = [(sensor.range, 0.0, math.inf, LENGTH), (sensor.bearing, *turns)]
        case AzimuthElevationSensor() | RangeAzimuthElevationSensor():
            turns = _turns(sensor.maximum_turns)
            parts = [(sensor.azimuth, *turns), (sensor.elevation, *turns)]
            if isinstance(sensor, RangeAzimuthElevationSensor):
                parts.insert(0, (sensor.range, 0.0, math.inf, LENGTH))
        case _:
            return ()
    own = deviations or (0.0,) * len(parts)
    return tuple(_reported(*part, deviation) for part, deviation in zip(parts, own, strict=True))


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


def _turns(most: float) -> tuple[float, float, str]:
    limit = most * math.tau
    why = f"at most {most:g} turns (maximum_turns), in radians unless scaled; degrees need a scale of 180/pi"
    return -limit, limit, why


def _own_deviations(observation: AnyObservation) -> tuple[float, ...]:
    """The standard deviations given with the observation, one for each number; empty for none."""
    stated, covariance = observation.standard_deviation, observation.covariance
    if covariance is not None:
        return tuple(math.sqrt(row[place]) for place, row in enumerate(covariance))
    if stated is None:
        return ()
    return stated if isinstance(stated, tuple) else (stated,) * len(observation.values)


def _reported(channel: Channel, least: float, most: float, why: str, own: float) -> Bounds:
    """The bounds of the reported number, if the observed quantity is between `least` and `most`."""
    first, last = sorted((channel.scale * least, channel.scale * most))
    deviation = max(own, channel.standard_deviation)
    low, high = (
        _stretched(channel, deviation, first, last, -1),
        _stretched(channel, deviation, last, first, 1),
    )
    for law in channel.noise.clutter if channel.noise is not None else ():
        first, last = (law.low, law.high) if isinstance(law, UniformClutter) else (0.0, math.inf)
        low, high = min(low, first), max(high, last)
    return Bounds(low, high, why)


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
