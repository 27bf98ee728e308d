"""Snapshots of the last minutes: what was at a time, in bounded memory; and a viewer that scrolls back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from beliefstream.schemas import Mixture
from beliefstream.streams.live import history
from beliefstream.streams.live.beliefs import BLOCK, Beliefs
from beliefstream.streams.live.history import History
from tests.streams.client.topics import posterior
from tests.streams.live.pages import Page, watched
from tests.streams.live.tables import take


class Clock:
    """Of the wall, moved by the test."""

    now = 1_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(history, "time", clock)
    return clock


def mixture(seed: int) -> Mixture:
    """Of eight components, unlike any other."""
    drawn = np.random.default_rng(seed).normal(size=(8, 2))
    return Mixture(weights=(0.125,) * 8, means=drawn.tolist(), covariances=(((1.0, 0.0), (0.0, 1.0)),) * 8)


def test_what_was_at_a_time_is_found(clock: Clock) -> None:
    table, past = Beliefs(), History()
    for number in (1, 2, 3):
        clock.now = 1_000.0 + 10 * number
        take(table, posterior(number, time=float(number)))
        past.take(table, {"entities": number}, {"beacon": "healthy"})
    for moment, expected in ((1_010.0, 1), (1_019.9, 1), (1_020.0, 2), (2_000.0, 3), (0.0, 1)):
        snapshot = past.at(moment)
        assert snapshot is not None
        assert snapshot.health == {"entities": expected}
        assert BLOCK.unpack_from(snapshot.frame())[-1] == expected
        assert snapshot.numbered() == [(1, "mower")]


def test_it_is_due_every_few_seconds_and_forgets_after_fifteen_minutes(clock: Clock) -> None:
    table, past = Beliefs(), History()
    assert past.begin is None and past.at(0.0) is None
    taken = 0
    for second in range(2_000):
        clock.now = 1_000.0 + second
        if past.is_due:
            past.take(table, {}, {})
            taken += 1
    assert taken == 2_000 / history.INTERVAL
    assert past.begin is not None
    assert history.SPAN <= clock.now - past.begin < history.SPAN + 2 * history.INTERVAL


def test_memory_is_bounded_by_what_is_counted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held against what Python has allocated."""
    monkeypatch.setattr(history, "MAXIMUM_BYTES", 1_000_000)
    table, past = Beliefs(), History()
    posteriors = [posterior(1, f"e-{number}", mixture=mixture(number)) for number in range(100)]
    tracemalloc.start()
    try:
        for number in range(100):
            clock.now += history.INTERVAL
            for each in posteriors:
                take(table, each.model_copy(update={"time": float(number)}))
            past.take(table, {}, {})
        held, _ = tracemalloc.get_traced_memory()
        del past
        held -= tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.5e6 < held < 1.1e6


def test_memory_is_that_of_the_first_snapshot_whatever_follows(clock: Clock) -> None:
    table, past = Beliefs(), History()
    posteriors = [posterior(1, f"e-{number}", mixture=mixture(number)) for number in range(50)]
    held = []
    tracemalloc.start()
    try:
        for number in range(2 * history.SLOTS):
            clock.now += history.INTERVAL
            take(table, *(each.model_copy(update={"time": float(number)}) for each in posteriors))
            past.take(table, {}, {"beacon": "healthy"})
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(held) < 1.03 * held[1]
    first, second = past.at(0.0), past.at(clock.now)
    assert first is not None and second is not None
    assert first.names is second.names and first.verdicts is second.verdicts


def test_entities_that_come_later_have_room(clock: Clock) -> None:
    table, past = Beliefs(), History()
    for number in range(1, 30):
        clock.now += history.INTERVAL
        take(table, posterior(1, f"e-{number}", time=float(number), mixture=mixture(number)))
        past.take(table, {}, {})
    for number in range(1, 30):
        snapshot = past.at(1_000.0 + number * history.INTERVAL)
        assert snapshot is not None
        assert snapshot.numbered() == [(each, f"e-{each}") for each in range(1, number + 1)]
        blocks = b"".join(table.entities[f"e-{each}"].block for each in range(1, number + 1))
        assert snapshot.frame() == blocks


def test_a_viewer_scrolls_back_and_to_now_again(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "INTERVAL", 0.0)
    with watched(page) as browser:
        page.put(posterior(1))
        browser.wait_for_entities("mower")
        browser.wait_until(lambda: browser.notes["range"][1] - browser.notes["range"][0] > 1, "a second")
        middle = browser.notes["range"][1]
        page.put(posterior(2), posterior(2, "late"))
        browser.wait_for_time("mower", 2)
        browser.send(type="past", time=middle)
        told = browser.wait_for("past")
        assert told["time"] <= middle
        assert told["health"]["entities"] == 1
        assert browser.entities["mower"].time == 1
        page.put(posterior(3))
        browser.notes.pop("range")
        browser.wait_for("range")  # which goes on; nothing of now is sent
        assert browser.entities["mower"].time == 1
        browser.notes.pop("whole")
        browser.send(type="live")
        browser.wait_for("whole")
        browser.wait_for_time("mower", 3)


@pytest.mark.parametrize("moment", ["null", '"now"', "NaN", "-1e308", "[]", "true"])
def test_a_time_that_makes_no_sense_does_no_harm(page: Page, moment: str) -> None:
    page.put(posterior(1))
    with watched(page) as browser:
        browser.wait_for_entities("mower")
        browser.connection.send(f'{{"type": "past", "time": {moment}}}')
        browser.send(type="live")
        page.put(posterior(2))
        browser.wait_for_time("mower", 2)
