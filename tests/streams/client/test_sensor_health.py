"""The health of sensors as a reader of the topic sees it, when some of them are removed."""

from __future__ import annotations

from typing import Any

from beliefstream.streams.client.sensor_health import read_sensor_health
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import Broker
from tests.streams.worker.test_sensor_health import Applied, Keeping, seen


def test_a_removed_sensor_is_not_there_and_makes_no_other_seem_less_silent(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    keeping = Keeping()

    def send(stamp: float, *applied: Applied) -> None:
        for record in keeping.add(*applied).summaries:
            place: dict[str, Any] = {"partition": record.partition, "timestamp_ms": round(1000 * stamp)}
            raw.send(topics.sensor_health, record.value, record.key, **place)
        raw.flush()

    silent = [seen(offset, score=(-1.0) ** offset) for offset in range(400)]
    ahead = [seen(offset, "gps", partition=1) for offset in range(0, 1000, 4)]
    send(4900.0, *silent, seen(400, "gps"))
    send(5000.0, *ahead)
    raw.send(topics.sensor_health, None, b"gps", partition=0, timestamp_ms=5_000_000)
    raw.flush()
    # partition 0 has told nothing for 100 seconds, so time has gone on there
    found = read_sensor_health(broker.bootstrap_servers, topics.sensor_health)
    assert found["radar"].assessment.verdict == "silent"
    for partition in (0, 1):
        raw.send(topics.sensor_health, None, b"gps", partition=partition)
    raw.flush()
    assert read_sensor_health(broker.bootstrap_servers, topics.sensor_health).keys() == {"radar"}
