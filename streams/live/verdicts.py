"""The verdicts on sensors, judged from the topic of their health over all partitions."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

import structlog

from beliefstream.schemas import Sensor, SensorHealth, Unusable, parse
from beliefstream.schemas.sensor_health import digest_of
from beliefstream.streams.client.sensor_health import SensorState, judged

log = structlog.get_logger(__name__)

JUDGE_SECONDS = 2.0  # between two judgements, at least
SHARE = 0.02  # of the time may go into judging: with many sensors it is rarer

NUMBERS = ("bias", "bias_deviation", "noise_scale", "outlier_share", "stated_share")

Summaries = Mapping[tuple[int, bytes], bytes | None]
"""The newest record of each partition and key; None for one that was removed."""


class SensorVerdicts:
    """The newest verdict on each sensor."""

    def __init__(self) -> None:
        self.version = 0  # rises with every judgement
        self._new: dict[tuple[int, bytes], bytes | None] = {}
        self._messages: dict[tuple[int, bytes], SensorHealth] = {}
        self._stamps: dict[int, float] = {}
        self._judged: dict[str, tuple[str, dict[str, Any]]] = {}  # definition and verdict
        self._due = 0.0

    def add(self, summaries: Summaries, stamps: Mapping[int, float] | None = None) -> None:
        """Take over what has been read, with the time of each partition's newest record; it is judged later."""
        self._new.update(summaries)
        self._stamps.update(stamps or {})

    async def judge(self) -> None:
        """Judge all sensors in a thread, if there is something new and the last judgement is long enough ago."""
        if not self._new or time.monotonic() < self._due:
            return
        new, self._new = self._new, {}
        begin = time.monotonic()
        self._judged = await asyncio.to_thread(self._judge, new, dict(self._stamps))
        self.version += 1
        now = time.monotonic()
        self._due = now + max(JUDGE_SECONDS, (now - begin) / SHARE)

    def of(self, sensor: Sensor) -> dict[str, Any] | None:
        """The verdict under the sensor's present definition; None if there is none yet."""
        definition, verdict = self._judged.get(sensor.sensor, ("", None))
        return verdict if definition == digest_of(sensor) else None

    def _judge(self, new: Summaries, stamps: Mapping[int, float]) -> dict[str, tuple[str, dict[str, Any]]]:
        for place, value in new.items():
            self._messages.pop(place, None)
            if value is None:
                continue
            try:
                self._messages[place] = parse(SensorHealth, value)
            except Unusable as error:
                log.warning("record skipped: not the health of a sensor", key=place[1], detail=error.detail)
        states = judged(self._messages.values(), stamps)
        return {name: (state.definition, told(state)) for name, state in states.items()}


def told(state: SensorState) -> dict[str, Any]:
    """A verdict as JSON: with the numbers of each channel, null where nothing is known."""
    assessment = state.assessment
    channels = [
        {
            "verdict": channel.verdict,
            "count": round(channel.count),
            **{name: _known(getattr(channel, name)) for name in NUMBERS},
        }
        for channel in assessment.channels
    ]
    return {"verdict": assessment.verdict, "because": assessment.bent_by, "channels": channels}


def _known(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
