"""What is promised of a worker with a hundred thousand beliefs."""

from __future__ import annotations

import pytest

from research.bench.end_to_end.site import Site
from research.bench.state import measure_state
from tests.brokers import KafkaNode

MANY = 100_000
MOST_SECONDS = 30.0


@pytest.mark.soak
@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_a_hundred_thousand_beliefs_are_restored_in_half_a_minute(kafka_broker: KafkaNode) -> None:
    """From memory's changelog, onto an empty disk, and from a warm one."""
    measured = measure_state(Site("kafka", kafka_broker.bootstrap_servers), MANY)
    restored = {start.name: start.recovery for start in measured.starts}
    print(restored)
    assert max(restored.values()) <= MOST_SECONDS
    assert restored["rocksdb://, warm"] < restored["rocksdb://, empty"]
