"""Computes the partition of a key, and recognises the partitioner behind records in other partitions.

Java's client, kafka-python and aiokafka choose `(murmur2(key) & 0x7fffffff) % partitions`. The service relies on it,
because one worker must own all records of an entity. Other clients use these hashes:

- CRC-32: the default of librdkafka, `consistent_random` (`rd_kafka_msg_partitioner_consistent_random`);
- FNV-1a, as the absolute value of a signed number: Sarama's default, `NewHashPartitioner`, kafka-go's `Hash`, and
  librdkafka's `fnv1a_random`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import NamedTuple

from kafka.partitioner import murmur2

KEYS_REMEMBERED = 65_536  # about 15 MB; hashing in Python takes 3 to 20 µs a key, a look-up a tenth of that
SHARE = 0.9  # share of the records that an explanation must fit
CHANCE = 1e-3  # probability that an unknown partitioner is taken for one of those below


class Cause(NamedTuple):
    """Why records are in the wrong partitions, and what to do about it."""

    name: str
    remedy: str


CRC32 = Cause(
    "CRC-32 of the key, the default of librdkafka (consistent_random)",
    "set partitioner=murmur2_random in the producer's configuration (confluent-kafka and other clients on librdkafka), "
    "-X topic.partitioner=murmur2_random for kcat",
)
FNV1A = Cause(
    "FNV-1a of the key, the default of Sarama and of kafka-go's Hash",
    "give Sarama a partitioner with murmur2 (docs/producers.md has one), kafka-go its Murmur2Balancer",
)
ONE = Cause("one partition for all keys", "set no partition: the producer's partitioner must choose it")
NO_HASH = Cause(
    "no hash of the key: round robin, sticky, random, or a partition that the producer chooses itself",
    "use Java's default partitioner, murmur2 of the key (docs/producers.md), and set no partition",
)
UNKNOWN = Cause(
    "not recognised",
    "set partitioner=murmur2_random in librdkafka, Java's default partitioner elsewhere, and no partition",
)


@lru_cache(KEYS_REMEMBERED)
def partition_of(key: bytes, count: int) -> int:
    """The partition, out of `count`, of records with this key."""
    return int((murmur2(key) & 0x7FFFFFFF) % count)


def recognise(placements: Iterable[tuple[bytes, int]], count: int) -> Cause:
    """Find the partitioner that explains why records with these keys are in these partitions, out of `count`.

    Several records of one key in one partition count once.
    """
    found = sorted(set(placements))
    for cause, choose in _candidates(count):
        fitting = sum(choose(key) == partition for key, partition in found)
        if fitting >= SHARE * len(found) and _is_significant(fitting, count):
            return cause
    if len({key for key, _ in found}) < len(found):
        return NO_HASH
    if len({partition for _, partition in found}) == 1 and _is_significant(len(found) - 1, count):
        return ONE
    return UNKNOWN


def _candidates(count: int) -> Iterable[tuple[Cause, Callable[[bytes], int]]]:
    yield CRC32, lambda key: zlib.crc32(key) % count
    yield FNV1A, lambda key: abs(_signed(_fnv1a(key))) % count
    for fewer in range(count - 1, 1, -1):
        name = f"murmur2 over {fewer} partitions, not {count}"
        remedy = (
            "do not add partitions to topics with records: create the topics again with the old number, and restart "
            "producers that still use another number"
        )
        yield Cause(name, remedy), partial(partition_of, count=fewer)


def _is_significant(fitting: int, count: int) -> bool:
    """Whether so many fitting records are unlikely by chance, given the number of candidates."""
    return fitting > 0 and fitting * math.log(count) >= math.log(count / CHANCE)


def _fnv1a(key: bytes) -> int:
    """The 32-bit hash of G. Fowler, L. C. Noll, P. Vo (RFC 9923)."""
    value = 0x811C9DC5
    for byte in key:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def _signed(value: int) -> int:
    """32 bits as a signed number."""
    return value - (1 << 32) if value & 0x80000000 else value
