"""Proposes a corrected definition of a sensor from its health."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beliefstream.inference.tracking.health.verdicts import Assessment, ChannelHealth
from beliefstream.schemas import Channel, GeodeticSensor, RangeChannel, Sensor, SpeedSensor, parse_sensor

__all__ = ["Proposal", "propose"]

LEAST_FACTOR = 0.1  # of the stated noise: less cannot be told beside a prediction
CLEAR = 3.0  # deviations from the definition that make a correction


@dataclass(frozen=True)
class Proposal:
    """A definition, and a line for each number that says what is changed and why, or why nothing is."""

    definition: Sensor
    reasons: tuple[str, ...]


def propose(definition: Sensor, assessment: Assessment, *, scale: bool = False) -> Proposal:
    """Return the definition with the bias and the noise that its observations show.

    A number is corrected where it differs clearly, by three of its standard deviations. The bias is what other sensors
    contradict: a belief follows a biased sensor in part. So the correction is too small rather than too large.

    Args:
        definition: the definition under which the sensor was judged.
        assessment: its health.
        scale: whether to correct the scale of distances and speeds too, instead of their bias alone.
    """
    fields = definition.model_dump(mode="json", exclude_none=True)
    parts = [name for name in type(definition).model_fields if isinstance(getattr(definition, name), Channel)]
    reasons: list[str] = []
    if parts:
        for name, channel in zip(parts, assessment.channels, strict=True):
            takes_scale = scale and isinstance(getattr(definition, name), RangeChannel)
            reasons += _correct(fields[name], channel, takes_scale, f"{name}.")
    elif len(assessment.channels) == 1 and not isinstance(definition, GeodeticSensor):
        takes_scale = scale and isinstance(definition, (RangeChannel, SpeedSensor))
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
    clear = [_is_clear(channel.bias, channel.bias_deviation) for channel in channels]
    weights = np.array(
        [
            channel.bias_deviation**-2 if clear_ else 0.0
            for channel, clear_ in zip(channels, clear, strict=True)
        ]
    )
    shared = float(
        weights @ [channel.bias if w else 0.0 for channel, w in zip(channels, weights, strict=True)]
    )
    shared = shared / weights.sum() if weights.any() else 0.0
    agree = all(not _is_clear(channel.bias - shared, channel.bias_deviation) for channel in channels)
    if not any(clear):
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
