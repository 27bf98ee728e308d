"""A broker in memory that loses its topics under a running worker."""

from __future__ import annotations

import json
from pathlib import Path

from beliefstream.streams.kafka import topics
from beliefstream.streams.state.stores import TOPICS_MISSING
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.workers import PARTITIONS, Worker

WAIT = 60.0  # seconds


def test_a_worker_whose_broker_has_lost_its_topics_says_so_and_creates_none(
    names: Names, tmp_path: Path
) -> None:
    with EmbeddedNode() as broker:
        servers, port = broker.bootstrap_servers, broker.port
        topics.create(servers, names.topics, partitions=PARTITIONS)
        worker = Worker(broker, names, tmp_path).start()
        try:
            broker.stop()
            broker.start()
            assert (broker.bootstrap_servers, broker.port) == (servers, port)
            assert worker.wait_until_ended(WAIT) == 70
        finally:
            worker.stop()
        (line,) = [json.loads(each) for each in worker.log().splitlines() if TOPICS_MISSING in each]
        assert all(
            name in line["detail"] for name in (names.topics.observations, names.topics.beliefs_changelog)
        )
        assert topics.create(servers, names.topics, partitions=PARTITIONS) == list(names.topics)
        assert topics.check(servers, names.topics, partitions=PARTITIONS) == []
