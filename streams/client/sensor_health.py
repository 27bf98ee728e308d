"""Reads the health of sensors from its topic, and judges it over all partitions."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from beliefstream.inference.tracking.health.columns import WIDTH
from beliefstream.inference.tracking.health.verdicts import Assessment, ChannelHealth, assess, judge_together
from beliefstream.inference.tracking.health.windows import Block, Window, merged
from beliefstream.schemas import GeodeticSensor, Sensor, SensorHealth, Unusable, parse, parse_sensor
from beliefstream.schemas.sensors.distances import Length
from beliefstream.streams.kafka.connection import TopicReader

log = structlog.get_logger(__name__)
LEAST_FACTOR = 0.1  # of the stated noise: less cannot be told beside a prediction
CLEAR = 3.0  # deviations from the definition that make a correction


@dataclass(frozen=True)
class SensorState:
    """Health of one sensor over all partitions."""

    assessment: Assessment  # the verdict, and the estimates for each reported number
    window: Window  # the sums that it follows from
    definition: str  # digest of the definition under which the sensor reported last


def read_sensor_health(
    servers: str | list[str], topic: str = "sensor-health", timeout: float = 30.0, **kafka_options: Any
) -> dict[str, SensorState]:
    """Return the health of each sensor by name.

    Args:
        servers: `host:port`, or several in a list or separated by commas.
        topic: topic of the health of sensors.
        timeout: longest time to read it, in seconds.
        kafka_options: options of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers in time.
        TopicMissing: the broker has no such topic.
    """
    newest: dict[tuple[int, bytes], SensorHealth] = {}
    stamps: dict[int, float] = {}
    with TopicReader(servers, topic, kafka_options) as reader:
        records = reader.read_all(timeout)
    for record in records:
        place = record.partition, record.key or b""
        newest.pop(place, None)
        if record.value is None:  # the sensor was removed, which does not tell how far the partition is
            continue
        stamps[record.partition] = record.timestamp / 1000
        try:
            newest[place] = parse(SensorHealth, record.value)
        except Unusable as error:
            log.warning(
                "record skipped: not the health of a sensor",
                topic=topic,
                partition=record.partition,
                offset=record.offset,
                detail=error.detail,
            )
    return judged(newest.values(), stamps)


def judged(
    messages: Iterable[SensorHealth], stamps: Mapping[int, float] | None = None
) -> dict[str, SensorState]:
    """Judge each sensor by the messages of all partitions, the newest of each.

    Messages with an earlier definition of their sensor, or with another window, are left out. Silence is measured
    against the newest observation of all sensors, but not beyond where a partition of the sensor has come: a worker
    may be behind there. The stamps are times of each partition's newest record, in seconds; all are equal if absent.
    """
    by_sensor: dict[str, list[SensorHealth]] = defaultdict(list)
    for message in messages:
        by_sensor[message.sensor].append(message)
    clocks = _clocks([each for several in by_sensor.values() for each in several], stamps or {})
    windows, definitions = {}, {}
    for sensor in sorted(by_sensor):
        last = max(by_sensor[sensor], key=lambda message: message.time)
        alike = [message for message in by_sensor[sensor] if _kind(message) == _kind(last)]
        windows[sensor], definitions[sensor] = merged(map(window_of, alike)), last.definition
    now = {name: min(clocks[each.partition] for each in several) for name, several in by_sensor.items()}
    alone = {sensor: assess(window, now[sensor]) for sensor, window in windows.items()}
    together = judge_together(alone, {sensor: window.entities for sensor, window in windows.items()})
    return {
        sensor: SensorState(found, windows[sensor], definitions[sensor]) for sensor, found in together.items()
    }


def _clocks(messages: Iterable[SensorHealth], stamps: Mapping[int, float]) -> dict[int, float]:
    """Event time that each partition has reached: where nothing is sent, time goes on from its newest record."""
    reached: dict[int, float] = {}
    for message in messages:
        reached[message.partition] = max(message.time, reached.get(message.partition, -math.inf))
    latest, newest = max(reached.values(), default=0.0), max(stamps.values(), default=0.0)
    return {
        partition: min(latest, time + newest - stamps.get(partition, newest))
        for partition, time in reached.items()
    }


def window_of(message: SensorHealth) -> Window:
    """Return the sums of a message; blocks with other columns, from another version, are left out."""
    channels = len(message.channels)
    blocks = [Block(block.start, block.length, np.array(block.sums)) for block in message.blocks]
    blocks = [block for block in blocks if block.sums.shape == (channels, WIDTH)]
    window = Window(message.window, channels, blocks, message.first, message.time, message.longest_gap)
    window.entities = message.entities
    return window


def _kind(message: SensorHealth) -> tuple[str, float, int]:
    return message.definition, message.window, len(message.channels)


@dataclass(frozen=True)
class Proposal:
    """A definition, and a line for each number that says what is changed and why, or why nothing is."""

    definition: Sensor
    reasons: tuple[str, ...]


def propose(definition: Sensor, assessment: Assessment, *, scale: bool = False) -> Proposal:
    """Return the definition with the bias and the noise that its observations show.

    A number is corrected where it differs clearly, by three of its standard deviations. The bias is what other sensors
    contradict: a belief follows a biased sensor in part. So the correction is too small rather than too large. With
    `scale` that of distances and speeds is corrected too, instead of their bias alone.
    """
    fields = definition.model_dump(mode="json", exclude_none=True)
    reasons: list[str] = []
    if parts := definition.parts:
        for (name, part), channel in zip(parts.items(), assessment.channels, strict=True):
            takes_scale = scale and isinstance(part, Length)
            reasons += _correct(fields[name], channel, takes_scale, f"{name}.")
    elif len(assessment.channels) == 1 and not isinstance(definition, GeodeticSensor):
        takes_scale = scale and isinstance(definition, Length)
        reasons += _correct(fields, assessment.channels[0], takes_scale, "")
    else:
        reasons += _correct_vector(fields, assessment.channels, takes_bias="bias" in fields)
    return Proposal(parse_sensor(fields), tuple(reasons))


def _correct(fields: dict[str, Any], channel: ChannelHealth, takes_scale: bool, name: str) -> list[str]:
    """Correct one number's fields in place."""
    reasons = []
    gain = channel.gain if takes_scale and _is_clear(channel.gain - 1, channel.gain_deviation) else 1.0
    if gain != 1.0:
        shift = channel.bias - (gain - 1) * channel.level
        reasons.append(f"{name}scale: {gain:.4f} ± {channel.gain_deviation:.2g} times the stated one")
        fields["scale"] *= gain
        fields["bias"] = gain * fields["bias"] + shift
        reasons.append(f"{name}bias: {shift:+.4g} after the change of scale")
    elif _is_clear(channel.bias, channel.bias_deviation):
        fields["bias"] += channel.bias
        reasons.append(f"{name}bias: off by {channel.bias:+.4g} ± {channel.bias_deviation:.2g}")
    else:
        reasons.append(f"{name}bias: as stated, {_within(channel.bias, channel.bias_deviation)}")
    factor, reason = _noise_factor(channel)
    reasons.append(f"{name}{reason}")
    _multiply_noise(fields, np.array([factor]))
    return reasons


def _correct_vector(fields: dict[str, Any], channels: Sequence[ChannelHealth], takes_bias: bool) -> list[str]:
    """Correct the fields of a sensor whose numbers share one bias and one noise, in place."""
    reasons = []
    clear = [channel for channel in channels if _is_clear(channel.bias, channel.bias_deviation)]
    weights = np.array([channel.bias_deviation**-2 for channel in clear])
    shared = float(weights @ [channel.bias for channel in clear] / weights.sum()) if clear else 0.0
    agree = all(not _is_clear(channel.bias - shared, channel.bias_deviation) for channel in channels)
    if not clear:
        reasons.append("bias: as stated")
    elif takes_bias and agree:
        fields["bias"] += shared
        reasons.append(f"bias: off by {shared:+.4g}")
    else:
        each = ", ".join(f"{channel.bias:+.4g} ± {channel.bias_deviation:.2g}" for channel in channels)
        reasons.append(
            f"bias: off by {each}; a {fields['kind']} sensor cannot state these, correct the source"
        )
    factors = []
    for number, channel in enumerate(channels):
        factor, reason = _noise_factor(channel)
        factors.append(factor)
        reasons.append(f"number {number}: {reason}")
    _multiply_noise(fields, np.array(factors))
    return reasons


def _noise_factor(channel: ChannelHealth) -> tuple[float, str]:
    """Return the factor of the stated noise, and the reason."""
    factor, deviation = max(channel.noise_scale, LEAST_FACTOR), channel.noise_scale_deviation
    if _is_clear(factor - 1, deviation):
        return factor, f"noise: {factor:.3f} ± {deviation:.2g} times the stated one"
    return 1.0, f"noise: as stated, {_within(factor - 1, deviation)} of it"


def _multiply_noise(fields: dict[str, Any], factors: np.ndarray[Any, Any]) -> None:
    if fields.get("covariance") is not None:
        fields["covariance"] = (np.outer(factors, factors) * np.array(fields["covariance"])).tolist()
    elif fields.get("standard_deviation") is not None:
        # one deviation for all numbers: the root of the mean square
        fields["standard_deviation"] *= float(np.sqrt(np.mean(factors**2)))


def _is_clear(difference: float, deviation: float) -> bool:
    return math.isfinite(difference) and math.isfinite(deviation) and abs(difference) > CLEAR * deviation


def _within(difference: float, deviation: float) -> str:
    if not (math.isfinite(difference) and math.isfinite(deviation)):
        return "as nothing is known"
    return f"within {abs(difference):.3g} ± {deviation:.2g}"
