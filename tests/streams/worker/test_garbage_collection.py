"""Objects with cycles go after a turn, not during it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from beliefstream.streams.worker.process import paused


class Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(100, 10, 10)
    yield
    gc.set_threshold(*before)


def make_many() -> list[list[int]]:
    return [[number] for number in range(1000)]


def test_cycles_are_collected_after_a_pause_not_during_it() -> None:
    gc.collect()
    with paused():
        gone = weakref.ref(Cycle())
        kept = make_many()
        assert gone() is not None
    kept += make_many()
    assert gone() is None
    assert len(kept) == 2000


def test_a_pause_ends_when_what_is_inside_fails() -> None:
    with pytest.raises(KeyError), paused():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
