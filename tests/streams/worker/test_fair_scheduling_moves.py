"""What becomes of waiting messages when partitions move, with Faust's own messages and events."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from beliefstream.streams.worker.fair_scheduling import DRAIN_SECONDS, FairScheduler
from tests.streams.worker.test_fair_scheduling import (
    BATCH,
    MOST_OF_ONE,
    arriving,
    fail_if_dropped,
    offsets,
)


def test_what_is_overtaken_is_still_processed_when_partitions_move_and_nothing_overtakes_the_rest() -> None:
    dropped: list[Any] = []
    scheduler = FairScheduler(BATCH, dropped.append)
    turn = scheduler.take(arriving("h" * 40 + "a" + "h" * 9))
    assert offsets(turn) == [*range(MOST_OF_ONE), 40]
    scheduler.clear()
    assert [message.offset for message in dropped] == [*range(41, 50)]
    assert scheduler.full  # nothing is taken from the stream
    drained: list[Any] = []
    while turn:
        drained += scheduler.done(turn)
        turn = scheduler.take()
    assert offsets(drained) == [*range(41)]
    # on its way here when partitions began to move: dropped, or what was let go would count as applied
    assert scheduler.take(arriving("h", first=50)) == []
    assert [message.offset for message in dropped] == [*range(41, 51)]
    again = scheduler.take(arriving("h" * 8 + "ah", first=41, generation=2))
    assert offsets(again) == [*range(41, 51)]
    assert scheduler.done(again) == again


def test_what_is_overtaken_is_let_go_when_that_takes_too_long() -> None:
    dropped: list[Any] = []
    now = [0.0]
    scheduler = FairScheduler(BATCH, dropped.append, clock=lambda: now[0])
    turn = scheduler.take(arriving("h" * 40 + "a"))
    scheduler.clear()
    assert offsets(scheduler.done(turn)) == [*range(MOST_OF_ONE)]
    now[0] = DRAIN_SECONDS + 1
    assert scheduler.take() == []
    assert sorted(message.offset for message in dropped) == [*range(MOST_OF_ONE, 41)]
    assert not scheduler.full
    again = scheduler.take(arriving("h" * 8 + "ah", first=MOST_OF_ONE, generation=2))
    assert offsets(again) == [*range(MOST_OF_ONE, MOST_OF_ONE + 10)]


def test_between_two_turns_what_is_overtaken_is_kept_and_processed_when_partitions_move() -> None:
    dropped: list[Any] = []
    scheduler = FairScheduler(BATCH, dropped.append)
    acknowledged = scheduler.done(scheduler.take(arriving("h" * 40 + "a" + "h" * 9)))
    scheduler.clear()
    assert [message.offset for message in dropped] == [*range(41, 50)]
    acknowledged += scheduler.done(scheduler.take([]))
    assert offsets(acknowledged) == [*range(41)]
    assert not scheduler.full


def test_where_nothing_was_overtaken_partitions_that_move_leave_nothing_to_wait_for() -> None:
    scheduler = FairScheduler(BATCH, fail_if_dropped)
    turn = scheduler.take(arriving("ab"))
    scheduler.clear()
    assert scheduler.done(turn) == turn
    assert not scheduler.full


def test_a_later_assignment_ends_what_was_left_of_the_one_before() -> None:
    dropped: list[Any] = []
    scheduler = FairScheduler(BATCH, dropped.append)
    scheduler.done(scheduler.take(arriving("h" * 3 * MOST_OF_ONE + "a")))
    turn = scheduler.take()
    scheduler.clear()
    scheduler.done(turn)
    left = 2 * MOST_OF_ONE
    again = scheduler.take(arriving("h" * 3, first=left, generation=2))
    assert offsets(again) == [left, left + 1, left + 2]
    assert scheduler.done(again) == again
    assert sorted(message.offset for message in dropped) == [*range(left, 3 * MOST_OF_ONE + 1)]


def test_where_nothing_waited_what_is_on_its_way_is_taken() -> None:
    scheduler = FairScheduler(BATCH, fail_if_dropped)
    scheduler.clear()
    assert offsets(scheduler.take(arriving("ab"))) == [0, 1]


class Log:
    """One partition's log, its reader, and beliefs that skip what they contain."""

    def __init__(self, keys: str) -> None:
        self.keys, self.position, self.committed, self.generation = keys, 0, 0, 1
        self.scheduler = FairScheduler(4, lambda message: None)
        self.applied: dict[str, list[int]] = {key: [] for key in keys}

    def fetched(self, count: int) -> list[Any]:
        some = self.keys[self.position : self.position + count]
        events = arriving(some, first=self.position, generation=self.generation)
        self.position += len(some)
        return events

    def finish(self, turn: list[Any]) -> None:
        for event in turn:
            mine = self.applied[event.message.key.decode()]
            if not mine or event.message.offset > mine[-1]:
                mine.append(event.message.offset)
        for event in self.scheduler.done(turn):
            assert event.message.offset == self.committed
            self.committed += 1

    def move(self, turn: list[Any], on_their_way: list[Any], between: bool) -> None:
        """Partitions move during a turn or after it, and come back."""
        if between:
            self.finish(turn)
        self.scheduler.clear()
        if not between:
            self.finish(turn)
        for arrived in ([], on_their_way):
            turn = self.scheduler.take(arrived)
            while turn:
                self.finish(turn)
                turn = self.scheduler.take()
        self.position, self.generation = self.committed, self.generation + 1


@given(
    st.text("hhhab", min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans(), st.booleans())),
)
def test_nothing_is_lost_or_overtaken_within_an_entity_when_partitions_move(
    keys: str, steps: list[tuple[int, bool, bool, bool]]
) -> None:
    log = Log(keys)
    for count, moves, late, between in steps:
        new = log.fetched(count)
        turn = log.scheduler.take([] if late else new)
        if moves:
            log.move(turn, new if late else [], between)
        else:
            log.finish(turn)
            log.finish(log.scheduler.take(new if late else []))
    for _ in keys:  # at least one a turn
        log.finish(log.scheduler.take(log.fetched(4)))
    assert log.committed == len(keys)
    for key, offsets_of in log.applied.items():
        assert offsets_of == [place for place, each in enumerate(keys) if each == key]
