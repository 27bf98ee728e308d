"""The order in which several processes take files."""

from __future__ import annotations

from itertools import groupby
from types import SimpleNamespace
from typing import Any

from tests.order import SECONDS, TESTS, spread


def items(*names: str) -> list[Any]:
    return [SimpleNamespace(path=TESTS / name, waits=name.startswith("waiting")) for name in names]


def names(ordered: list[Any]) -> list[str]:
    return [path.name for path, _ in groupby(item.path for item in ordered)]


def test_every_file_that_is_named_is_there() -> None:
    assert [name for name in SECONDS if not (TESTS / name).exists()] == []


def test_files_stay_whole_and_no_test_is_lost() -> None:
    # parameters of a session have put tests of two files among each other
    given = items("a.py", "waiting.py", "a.py", "b.py", "waiting.py", "b.py")
    ordered = spread(given, lambda item: item.waits)  # type: ignore[attr-defined]
    assert sorted(names(ordered)) == ["a.py", "b.py", "waiting.py"]
    assert sorted(map(id, ordered)) == sorted(map(id, given))


def test_both_kinds_last_to_the_end_and_the_longest_come_first() -> None:
    longest = max(SECONDS, key=lambda name: SECONDS[name])
    given = items(*(f"{n}.py" for n in range(100)), *(f"waiting-{n}.py" for n in range(10)), longest)
    ordered = names(spread(given, lambda item: item.waits))  # type: ignore[attr-defined]
    assert longest.endswith(ordered[0]) or longest.endswith(ordered[1])
    places = [place for place, name in enumerate(ordered) if name.startswith("waiting")]
    assert places[0] <= 1
    assert places[-1] > 0.85 * len(ordered)
