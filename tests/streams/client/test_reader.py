from __future__ import annotations

from kafka import KafkaProducer

from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.connection import Span, TopicReader
from tests.brokers import Broker
from tests.conftest import Names


def test_each_partition_has_its_own_end(broker: Broker, names: Names) -> None:
    topics.create(broker.bootstrap_servers, names.topics, partitions=4)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for partition, count in ((0, 3), (1, 30), (3, 1)):
        for _ in range(count):
            producer.send(names.topics.observations, value=b"{}", partition=partition)
    producer.flush()
    producer.close()
    with TopicReader(broker.bootstrap_servers, names.topics.observations, {}) as reader:
        assert reader.spans() == {0: Span(0, 3), 1: Span(0, 30), 2: Span(0, 0), 3: Span(0, 1)}
