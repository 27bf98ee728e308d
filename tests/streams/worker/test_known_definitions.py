"""When a worker need not read definitions again, for names that it does not know."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from beliefstream.streams.worker.fusion import came_before


def events(*times: float | None) -> list[Any]:
    return [SimpleNamespace(message=SimpleNamespace(time_in=time)) for time in times]


@pytest.mark.parametrize(
    ("times", "known"),
    [((1.0, 2.9), True), ((1.0, 3.0), False), ((4.0, 1.0), False), ((1.0, None), False)],
)
def test_definitions_are_known_if_all_messages_came_before_they_were_read(
    times: tuple[float | None, ...], known: bool
) -> None:
    assert came_before(events(*times), 3.0) == known
    assert not came_before(events(*times), -math.inf)
