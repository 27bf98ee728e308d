"""What the clients' tests put into topics and read from them."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer

from beliefstream.schemas import Coordinate, Mixture, Posterior, Quality
from beliefstream.streams.client import PosteriorConsumer
from tests.brokers import Broker
from tests.conftest import eventually

PATIENCE = 30.0  # seconds; enough for a busy machine
QUIET = 1.0  # seconds without a message after which a test takes the topic to be read
PLANE = Mixture.gaussian([0.0, 0.0], 1.0)


def records(broker: Broker, topic: str, count: int) -> list[Any]:
    """The first `count` records of a topic, by offset within each partition."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    found: list[Any] = []

    def complete() -> bool:
        for part in consumer.poll(timeout_ms=200).values():
            found.extend(part)
        return len(found) >= count

    try:
        eventually(complete, PATIENCE, f"{count} records in {topic}")
    finally:
        consumer.close()
    return found


def posterior(sequence: int, entity: str = "mower", **changes: Any) -> Posterior:
    fields: dict[str, Any] = {
        "entity": entity,
        "time": float(sequence),
        "sequence": sequence,
        "revision": 0,
        "coordinates": (Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        "mixture": PLANE,
        "quality": Quality(sample_efficiency=0.9, log_evidence=-1.5, p_value=0.4, method="transformer"),
        "applied": (f"0:{sequence}",),
        "prior_sequence": 0,
        "model": "planar",
        "model_version": 1,
        **changes,
    }
    return Posterior(**fields)


def put(raw: Any, topic: str, *posteriors: Posterior, partition: int | None = 0) -> None:
    for each in posteriors:
        raw.send(topic, key=each.entity.encode(), value=each.to_json(), partition=partition)
    raw.flush()


def sequences(posteriors: list[Posterior]) -> list[int]:
    return [each.sequence for each in posteriors]


def drain(consumer: PosteriorConsumer, count: int) -> list[Posterior]:
    """The next `count` posteriors, and any that come within a short while after them."""
    found: list[Posterior] = []

    def complete() -> bool:
        found.extend(consumer.poll(0.2))
        return len(found) >= count

    eventually(complete, PATIENCE, f"{count} posteriors")
    return found + consumer.poll(QUIET)
