"""Where records belong, held against Java's own test vectors and what real clients answered."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from beliefstream.schemas.contract import CLIENTS
from beliefstream.streams.kafka.partitioners import (
    CRC32,
    FNV1A,
    NO_HASH,
    ONE,
    UNKNOWN,
    partition_of,
    recognise,
)
from tests.streams.placements import FNV1A as AS_SARAMA, KEYS, LIBRDKAFKA, MURMUR2, PARTITIONS, placed

JAVA = {  # of org.apache.kafka.common.utils.UtilsTest.testMurmur2, signed as Java has it
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def misplaced(placements: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    right = dict(placed(MURMUR2))
    return [(key, partition) for key, partition in placements if right[key] != partition]


@pytest.mark.parametrize("count", [1, 2, 6, 8, 100, 1009])
def test_a_record_belongs_where_java_puts_it(count: int) -> None:
    assert [partition_of(key, count) for key in JAVA] == [
        (value & 0x7FFFFFFF) % count for value in JAVA.values()
    ]


def test_a_record_belongs_where_clients_with_murmur2_put_it() -> None:
    assert [partition_of(key, PARTITIONS) for key, _ in placed(MURMUR2)] == [
        partition for _, partition in placed(MURMUR2)
    ]


@pytest.mark.parametrize(("placements", "cause"), [(LIBRDKAFKA, CRC32), (AS_SARAMA, FNV1A)])
def test_what_other_clients_do_by_default_is_recognised(placements: str, cause: object) -> None:
    found = misplaced(placed(placements))
    assert recognise(found, PARTITIONS) == cause
    assert recognise(found[:6], PARTITIONS) == cause
    assert recognise(found[:6] * 100, PARTITIONS) == cause


def test_too_few_keys_tell_nothing() -> None:
    found = misplaced(placed(LIBRDKAFKA))
    assert recognise(found[:2] * 1000, PARTITIONS) == UNKNOWN
    assert recognise([], PARTITIONS) == UNKNOWN


def test_a_key_in_several_partitions_follows_no_hash() -> None:
    turns = [(KEYS[number % 8], number % PARTITIONS) for number in range(8)]
    turns += [(KEYS[number % 8], (number + 3) % PARTITIONS) for number in range(8)]
    assert recognise(misplaced(turns), PARTITIONS) == NO_HASH


def test_all_keys_in_one_partition_are_recognised() -> None:
    assert recognise(misplaced([(key, 5) for key in KEYS]), PARTITIONS) == ONE


def test_partitions_that_were_added_are_recognised() -> None:
    # the same hash over 4: its remainder of 8, once more
    found = misplaced([(key, partition % 4) for key, partition in placed(MURMUR2)])
    assert recognise(found, PARTITIONS).name == "murmur2 over 4 partitions, not 8"


@pytest.mark.parametrize("count", [2, 3, 8, 50])
def test_chance_is_hardly_ever_taken_for_a_hash(count: int) -> None:
    generator, wrong = random.Random(0), 0
    for _ in range(500):
        keys = [generator.randbytes(8).hex().encode() for _ in range(generator.randint(1, 15))]
        found = [(key, generator.randrange(count)) for key in keys]
        found = [(key, number) for key, number in found if partition_of(key, count) != number]
        wrong += recognise(found, count) != UNKNOWN
    assert wrong <= 5


PAGE = (Path(__file__).parents[3] / "docs" / "producers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("row", "placements"), [("murmur2", MURMUR2), ("CRC-32", LIBRDKAFKA)])
def test_the_page_for_producers_shows_where_real_clients_put_keys(row: str, placements: str) -> None:
    header, shown = (re.findall(rf"^\| {start} \|(.*)\|$", PAGE, re.MULTILINE)[0] for start in ("key", row))
    assert header.replace("`", "").replace(" ", "").split("|") == [key.decode() for key in KEYS[:8]]
    assert shown.replace(" ", "").split("|") == list(placements[:8])


def test_the_page_for_producers_has_an_example_of_each_client() -> None:
    for client in CLIENTS:
        name = client.split(" and ")[0].split(", ")[-1]
        assert re.search(rf"^\*\*.*{re.escape(name)}", PAGE, re.MULTILINE), name
    for setting in ("murmur2_random", "topic.partitioner=murmur2_random", "Murmur2Balancer{}", "newMurmur2"):
        assert any(setting in example for example in CLIENTS.values())
        assert setting in PAGE
