"""Whose turn it is, with Faust's own messages and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from faust.events import Event
from faust.types import TP
from faust.types.tuples import Message
from hypothesis import given, strategies as st

from beliefstream.streams.worker.fair_scheduling import (
    DEEP,
    FIRST,
    MOST_UNACKNOWLEDGED,
    ROUND,
    SHARE,
    FairScheduler,
)

BATCH = 512
MOST_OF_ONE = BATCH // SHARE


def delivered(key: str, offset: int, partition: int = 0, generation: int = 1) -> Any:
    tp = TP("observations", partition)
    message = Message(
        *tp,
        offset,
        0.0,
        0,
        [],
        key.encode(),
        b"",
        None,
        0,
        0,
        tp=tp,
        generation_id=generation,
    )
    return Event(cast(Any, None), key.encode(), b"", {}, message)


def arriving(keys: str, first: int = 0, **others: int) -> list[Any]:
    """Messages of these keys, a letter each, at offsets from `first` on."""
    return [delivered(key, first + number, **others) for number, key in enumerate(keys)]


def fail_if_dropped(message: Any) -> None:
    pytest.fail(f"{message} was dropped")


def offsets(events: list[Any]) -> list[int]:
    return [event.message.offset for event in events]


def test_a_batch_without_a_busy_entity_is_one_turn_as_it_came() -> None:
    scheduler, events = FairScheduler(BATCH, fail_if_dropped), arriving("abcab" * 8)
    turn = scheduler.take(events)
    assert turn == events
    assert scheduler.done(turn) == events
    assert scheduler.take() == []


def test_the_last_turn_of_a_backlog_says_that_all_is_processed() -> None:
    """Also where it processes none of the last messages: else they would count as lost once they are committed."""
    scheduler = FairScheduler(BATCH, fail_if_dropped)
    first = scheduler.take(arriving("h" * (MOST_OF_ONE + 1) + "a"))
    overtaken = MOST_OF_ONE
    assert set(scheduler.ends(first).values()) == {overtaken}
    scheduler.done(first)
    last = scheduler.take()
    assert offsets(last) == [overtaken]
    assert set(scheduler.ends(last).values()) == {overtaken + 2}
    assert offsets(scheduler.done(last)) == [overtaken, overtaken + 1]


def test_what_is_beyond_an_entitys_turn_waits_and_others_go_ahead() -> None:
    scheduler = FairScheduler(BATCH, fail_if_dropped)
    first = scheduler.take(arriving("h" * 50 + "ab"))
    assert offsets(first) == [*range(MOST_OF_ONE), 50, 51]
    assert offsets(scheduler.done(first)) == [*range(MOST_OF_ONE)]  # the others overtook: not yet
    second = scheduler.take(arriving("hcc", first=52))
    assert offsets(second) == [*range(MOST_OF_ONE, 50), 52, 53, 54]
    assert offsets(scheduler.done(second)) == [*range(MOST_OF_ONE, 55)]
    assert scheduler.take() == []


def test_of_many_entities_those_that_have_waited_longest_come_first() -> None:
    scheduler = FairScheduler(4, fail_if_dropped)
    assert offsets(scheduler.take(arriving("abcdef"))) == [0, 1, 2, 3]
    assert offsets(scheduler.take(arriving("a", first=6))) == [4, 5, 6]


def test_of_a_backlog_a_turn_takes_full_rounds_only() -> None:
    scheduler = FairScheduler(8, fail_if_dropped)
    first = scheduler.take(arriving("aaaaabcd"))
    assert offsets(first) == [0, 5, 6, 7]
    assert scheduler.done(first) == first[:1]
    second = scheduler.take(arriving("abcdeeee", first=8))  # three of "a" before
    assert offsets(second) == [1, 9, 10, 11, 12]
    assert offsets(scheduler.take()) == [2, 3, 4, 8, 13, 14, 15]  # less than a batch is one turn


def test_of_a_backlog_every_round_but_the_last_is_full() -> None:
    scheduler, rounds = FairScheduler(BATCH, fail_if_dropped), []
    random = np.random.default_rng(0)
    while not scheduler.full:
        keys = [f"entity-{number}" for number in random.integers(384, size=BATCH)]
        turn = scheduler.take([delivered(key, place) for place, key in enumerate(keys)])
        counts = Counter(event.message.key for event in turn)
        rounds.append(len(turn) / max(counts.values()))
    assert min(rounds[3:]) > 0.85 * ROUND


def test_of_a_backlog_a_turn_takes_several_messages_of_few_entities_and_all_have_their_turn() -> None:
    scheduler = FairScheduler(2048, fail_if_dropped, clock=lambda: 0.0)  # every turn is fast
    names = [f"entity-{number}" for number in range(1024)]
    backlog = [delivered(name, 1024 * row + place) for row in range(16) for place, name in enumerate(names)]
    turn, turns = scheduler.take(backlog), []
    for _ in range(6):
        turns.append(Counter(event.message.key for event in turn))
        scheduler.done(turn)
        turn = scheduler.take()
    keys = [name.encode() for name in names]
    quarters = [keys[start : start + ROUND] for start in range(0, 1024, ROUND)]
    # turns grow while they are fast; who has had one goes to the end
    assert turns == [
        dict.fromkeys(quarters[place % 4], deep) for place, deep in enumerate([2, 4, DEEP, DEEP, DEEP, DEEP])
    ]


def test_of_a_backlog_of_single_messages_a_turn_takes_one_of_each_entity() -> None:
    scheduler = FairScheduler(2048, fail_if_dropped)
    scheduler.done(scheduler.take([delivered(f"entity-{number}", number) for number in range(8000)]))
    assert len(scheduler.take()) == 2 * FIRST


def test_a_busy_entity_does_not_fall_behind_in_a_backlog() -> None:
    scheduler, taken, offset = FairScheduler(BATCH, fail_if_dropped), 0, 0
    for _ in range(10):  # a tenth of all messages is of one entity
        keys = [f"entity-{number}" if number % 10 else "h" for number in range(BATCH)]
        turn = scheduler.take([delivered(key, offset + place) for place, key in enumerate(keys)])
        offset += BATCH
        taken += sum(event.message.key == b"h" for event in turn)
    assert taken >= 9 * MOST_OF_ONE


def test_no_more_is_taken_than_a_bound() -> None:
    scheduler = FairScheduler(BATCH, fail_if_dropped)
    taken = 0
    while not scheduler.full:
        scheduler.take(arriving("h" * BATCH, first=taken))
        taken += BATCH
    assert taken == MOST_UNACKNOWLEDGED


def timed_scheduler(most: int) -> tuple[FairScheduler, Callable[[float], int]]:
    """A scheduler with a long backlog, and a function that returns the size of a turn that takes so many seconds."""
    now = [0.0]
    scheduler = FairScheduler(most, fail_if_dropped, clock=lambda: now[0])
    backlog = [delivered(f"entity-{number}", number) for number in range(20_000)]
    scheduler.done(scheduler.take(backlog))

    def turn_of(seconds: float) -> int:
        turn = scheduler.take()
        now[0] += seconds
        scheduler.done(turn)
        return len(turn)

    return scheduler, turn_of


def test_turns_grow_while_they_are_full_and_fast_and_shrink_where_they_are_slow() -> None:
    _, turn_of = timed_scheduler(most=2048)
    assert [turn_of(0.1) for _ in range(3)] == [2 * FIRST, 4 * FIRST, 2048]  # the first turn took no time
    assert turn_of(0.7) == 2048  # neither fast nor slow
    assert turn_of(2.0) == 2048
    assert turn_of(100.0) == 1024
    assert [turn_of(0.7) for _ in range(2)] == [FIRST, FIRST]  # no slow turn makes less


def test_a_turn_that_is_not_half_full_makes_the_next_no_larger() -> None:
    now = [0.0]
    scheduler = FairScheduler(2048, fail_if_dropped, clock=lambda: now[0])
    few = [delivered(f"entity-{number}", number) for number in range(FIRST // 2)]
    scheduler.done(scheduler.take(few))
    more = [delivered(f"entity-{number}", FIRST + number) for number in range(2 * FIRST)]
    assert len(scheduler.take(more)) == FIRST


def test_no_turn_is_larger_than_the_setting_allows() -> None:
    _, turn_of = timed_scheduler(most=100)
    assert [turn_of(0.0) for _ in range(3)] + [turn_of(50.0), turn_of(0.0)] == [100] * 5


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("hhhhab"), st.sampled_from((0, 1))), max_size=80), max_size=12
    ),
    st.sampled_from((3, 40)),
)
def test_all_are_applied_once_in_order_and_acknowledged_in_order(
    batches: list[list[tuple[str, int]]], most: int
) -> None:
    scheduler = FairScheduler(most, fail_if_dropped)
    applied: list[Any] = []
    acknowledged: list[Any] = []
    place = {0: 0, 1: 0}
    sent: list[Any] = []

    def deal_with(turn: list[Any]) -> None:
        ends = scheduler.ends(turn)
        applied.extend(turn)
        assert ends.keys() == {event.message.tp for event in turn}
        for place, end in ends.items():
            mine = {event.message.offset for event in applied if event.message.tp == place}
            assert end not in mine
            assert mine >= {*range(end)}
        acknowledged.extend(scheduler.done(turn))

    for batch in batches:
        new = []
        for key, partition in batch:
            new.append(delivered(f"{key}{partition}", place[partition], partition))
            place[partition] += 1
        sent.extend(new)
        deal_with(scheduler.take(new))
    while turn := scheduler.take():
        deal_with(turn)
    for events in (applied, acknowledged):
        assert len(events) == len(sent)
        assert {id(event) for event in events} == {id(event) for event in sent}
    for key in {event.message.key for event in sent}:
        mine = [event.message.offset for event in applied if event.message.key == key]
        assert mine == sorted(mine)
    for partition, count in place.items():
        assert [e.message.offset for e in acknowledged if e.message.partition == partition] == [*range(count)]


@pytest.mark.parametrize("partition", [0, 1])
def test_partitions_do_not_wait_for_each_other(partition: int) -> None:
    scheduler = FairScheduler(BATCH, fail_if_dropped)
    turn = scheduler.take(arriving("h" * 40, partition=1 - partition) + arriving("ab", partition=partition))
    done = scheduler.done(turn)
    assert offsets([event for event in done if event.message.partition == partition]) == [0, 1]
