"""Dead letters as workers write them, for the tests of those who read them."""

from __future__ import annotations

import json
from typing import Any

from beliefstream.schemas import DeadLetter, Reason

NOW_MS = 1_769_860_800_000  # 2026-01-31T12:00:00Z


def observation(entity: str = "mower", sensor: str = "radar", **fields: Any) -> bytes:
    return json.dumps({"entity": entity, "sensor": sensor, "time": 1.0, "value": 2.0, **fields}).encode()


def put_letter(
    raw: Any,
    topic: str,
    offset: int,
    reason: Reason = Reason.unknown_sensor,
    *,
    source: str = "observations",
    partition: int = 0,
    key: bytes | None = b"mower",
    value: bytes | None = None,
    detail: str = "sensor: no definition",
    replay_of: str | None = None,
    mqtt_topic: str | None = None,
    stamp: int = NOW_MS,
) -> bytes:
    """Writes one that came from `offset` of a partition of the source; returns its value."""
    content = observation(id=f"{partition}:{offset}") if value is None else value
    letter = DeadLetter(
        reason=reason,
        detail=detail,
        topic=source,
        partition=partition,
        offset=offset,
        replay_of=replay_of,
        mqtt_topic=mqtt_topic,
    )
    raw.send(topic, key=key, value=content, headers=letter.headers(), partition=partition, timestamp_ms=stamp)
    return content
