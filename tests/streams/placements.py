"""Where real clients put the keys `entity-00` to `entity-39` on a topic of 8 partitions, as they answered.

Recorded from confluent-kafka 2.16.1 (librdkafka 2.16.0) and kafka-python 3.0.12, which sent them to a broker, and from
the partitioners of Sarama 1.61.1, franz-go 1.22.3 and kafka-go 0.4.51.
"""

from __future__ import annotations

PARTITIONS = 8
KEYS = tuple(f"entity-{number:02d}".encode() for number in range(40))
MURMUR2 = "3173055220025701021421646562075564157202"
"""kafka-python; confluent-kafka with murmur2_random; franz-go; kafka-go's Murmur2Balancer; Sarama as documented."""
LIBRDKAFKA = "3571246017246035710617530642350642175324"
"""confluent-kafka as it is by default."""
FNV1A = "3614725036416305274174523016746105254761"
"""Sarama as it is by default; kafka-go's Hash; confluent-kafka with fnv1a_random."""


def placed(partitions: str) -> list[tuple[bytes, int]]:
    """Keys with their partitions."""
    return list(zip(KEYS, map(int, partitions), strict=True))
