"""Makes the message about a sensor's health."""

from __future__ import annotations

import math

from beliefstream.inference.tracking.health import verdicts
from beliefstream.schemas import ChannelHealth, HealthBlock, SensorHealth
from beliefstream.streams.state.sensor_records import SensorRecord


def summary(
    sensor: str, partition: int, record: SensorRecord, assessment: verdicts.Assessment
) -> SensorHealth:
    """Return the message of a sensor in one partition; `assessment` is of its record's window."""
    window = record.window
    return SensorHealth(
        sensor=sensor,
        partition=partition,
        time=window.newest,
        first=window.first,
        definition=record.definition.hex(),
        window=window.seconds,
        longest_gap=window.longest_gap,
        entities=window.entities,
        verdict=assessment.verdict,
        channels=tuple(map(_channel, assessment.channels)),
        blocks=tuple(
            HealthBlock(start=block.start, length=block.length, sums=tuple(map(tuple, block.sums.tolist())))
            for block in window.blocks
        ),
    )


def _channel(found: verdicts.ChannelHealth) -> ChannelHealth:
    known = math.isfinite(found.bias) and math.isfinite(found.bias_deviation)
    return ChannelHealth(
        verdict=found.verdict,
        observations=found.count,
        bias=found.bias if known else None,
        bias_deviation=found.bias_deviation if known else None,
        noise_scale=found.noise_scale,
        outlier_share=min(max(found.outlier_share, 0.0), 1.0),
        excess_log_evidence=found.excess,
    )
