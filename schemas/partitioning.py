"""Rule that assigns records to partitions, and how to set each Kafka client to follow it.

One worker owns partition n of `observations`, `priors` and the beliefs. Records of one entity in two partitions would
give it two beliefs. So all producers must choose the partition by the same hash of the key.
"""

from __future__ import annotations

from typing import Any, NamedTuple

HASH = "murmur2"
FORMULA = "(murmur2(key) & 0x7fffffff) % partitions"
RULE = (
    f"The record's key is the entity in UTF-8, and its partition is {FORMULA}, as with Java's default partitioner. "
    "A record without a key, or in another partition, becomes a dead letter."
)


class Client(NamedTuple):
    """A Kafka client: its name, and the code or option that makes it follow the rule."""

    name: str
    example: str


CLIENTS = (
    Client(
        "Java",
        'producer.send(new ProducerRecord<>("observations", "mower", json)); // the default partitioner',
    ),
    Client(
        "kafka-python",
        'KafkaProducer().send("observations", key=b"mower", value=json)  # the default partitioner',
    ),
    Client(
        "aiokafka", 'await producer.send("observations", key=b"mower", value=json)  # the default partitioner'
    ),
    Client(
        "confluent-kafka and all clients of librdkafka",
        'Producer({"partitioner": "murmur2_random"})  # not its default',
    ),
    Client("kcat", "kcat -P -b HOST:PORT -t observations -K '|' -X topic.partitioner=murmur2_random"),
    Client("Go, franz-go", "kgo.NewClient(kgo.SeedBrokers(brokers...)) // the default partitioner"),
    Client("Go, kafka-go", "&kafka.Writer{Balancer: kafka.Murmur2Balancer{}} // not its default"),
    Client(
        "Go, Sarama",
        "config.Producer.Partitioner = sarama.NewCustomPartitioner(sarama.WithAbsFirst(), "
        "sarama.WithCustomHashFunction(newMurmur2)) // not its default; docs/producers.md has newMurmur2",
    ),
)


def extension() -> dict[str, Any]:
    """Return the rule as the extension `x-partitioner` of the contract."""
    return {
        "key": "entity",
        "hash": HASH,
        "partition": FORMULA,
        "description": RULE,
        "clients": {client.name: client.example for client in CLIENTS},
    }
