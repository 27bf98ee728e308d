"""The table of beliefs: bounded, and what has changed since a version."""

from __future__ import annotations

from itertools import pairwise

import pytest

from beliefstream.streams.live import beliefs
from beliefstream.streams.live.beliefs import MAXIMUM_SAMPLES, Beliefs
from tests.streams.client.topics import posterior
from tests.streams.live.tables import take


def test_only_what_has_changed_is_in_the_changes() -> None:
    table = Beliefs()
    for name in "abc":
        take(table, posterior(1, name))
    before = table.version
    take(table, posterior(2, "a"))
    changes = table.changes(before)
    assert [each.name for each in changes.entities] == ["a"]
    assert not table.changes(changes.version).entities


def test_the_entity_that_was_silent_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beliefs, "MAXIMUM_ENTITIES", 2)
    table = Beliefs()
    take(table, posterior(1, "a"))
    take(table, posterior(1, "b"))
    take(table, posterior(2, "a"))
    before = table.version
    take(table, posterior(1, "c"))
    assert set(table.entities) == {"a", "c"}
    assert table.changes(before).gone == [2]


def test_the_history_is_bounded_and_has_no_two_samples_close_together() -> None:
    table = Beliefs()
    for number in range(1, 2000):
        take(table, posterior(number, time=number * 0.25))
    samples = table.entities["mower"].samples
    assert len(samples) == MAXIMUM_SAMPLES
    times = [sample.time for sample in samples]
    assert min(after - before for before, after in pairwise(times)) > 0.99


def test_a_time_that_comes_again_replaces_the_later_history() -> None:
    table = Beliefs()
    for number in (1, 2, 3, 2):
        take(table, posterior(number))
    assert [sample.time for sample in table.entities["mower"].samples] == [1, 2]
    assert [sample.number for sample in table.entities["mower"].samples.after(3)] == [4]
