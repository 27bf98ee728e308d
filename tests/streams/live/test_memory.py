"""Memory of the page's server over half an hour of a stream, as fast as it can be added."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import msgspec
import pytest

from beliefstream.streams.live import history
from beliefstream.streams.live.beliefs import Beliefs
from beliefstream.streams.live.history import History
from beliefstream.streams.live.posteriors import Group, read_posteriors
from research.bench.end_to_end.live import _variants
from tests.streams.live.test_history import Clock

ENTITIES = 1000
MINUTES = 30
FULL = 1  # minutes after which all is allocated


def resident() -> float:
    """Of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def prepared() -> list[list[Group]]:
    """Posteriors of eight components of each entity, several times."""
    times = zip(
        *(
            [before + b'"time":0.125' + after for before, after in _variants(f"e-{number}")]
            for number in range(ENTITIES)
        ),
        strict=True,
    )
    return [read_posteriors(raws)[0] for raws in times]


def at(group: Group, time: float) -> Group:
    """The same posteriors at another time."""
    moved = [msgspec.structs.replace(each, time=time) for each in group.posteriors]
    return dataclasses.replace(group, posteriors=moved)


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell resident memory")
def test_memory_is_flat_from_the_second_minute_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pytest -m soak -s tests/streams/live/test_memory.py` prints it, minute by minute."""
    clock = Clock()
    monkeypatch.setattr(history, "time", clock)
    variants, table, past = prepared(), Beliefs(), History()
    begin, held = resident(), []
    for second in range(60 * MINUTES):
        clock.now += 1.0
        groups = [at(group, clock.now) for group in variants[second % len(variants)]]
        table.take(groups, [clock.now] * (1 + max(place for group in groups for place in group.places)))
        if past.is_due:
            past.take(table, {}, {})
        if second % 60 == 59:
            held.append(resident() - begin)
    print("MB by minute:", " ".join(f"{each:.0f}" for each in held))
    assert past.begin is not None
    assert clock.now - past.begin >= history.SPAN  # all of it has room
    assert max(held[FULL:]) < 1.05 * held[FULL]
    assert max(held) < 400
