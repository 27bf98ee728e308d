from __future__ import annotations

import pytest

from research.bench import at_rest
from tests.streams.oracle import updater


def cells(lines: list[str]) -> list[list[str]]:
    return [line.strip("| ").replace(",", "").split(" | ") for line in lines[2:]]


def test_a_record_grows_while_reports_are_taken_together_and_shrinks_then() -> None:
    found = {int(number): int(size) for number, size in cells(list(at_rest.sizes(updater())))}
    assert found[8] < found[32] < found[64]
    assert found[80] < found[8]


def test_each_kind_has_a_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_rest, "REPORTS", (2,))
    monkeypatch.setattr(at_rest, "REPEATS", 1)
    rows = cells(list(at_rest.costs(updater())))
    assert len(rows) == 4
    assert all(float(cost) > 0 for _, cost in rows)


def test_an_update_after_a_silence_has_a_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_rest, "REPORTS", (4,))
    monkeypatch.setattr(at_rest, "REPEATS", 1)
    ((number, cost),) = cells(list(at_rest.silences(updater())))
    assert number == "4"
    assert float(cost) > 0
