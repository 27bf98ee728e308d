from __future__ import annotations

import json

import pytest

from beliefstream.streams.settings import Settings
from tests.streams.cli.conftest import Run


def test_settings_are_listed_with_what_they_are_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_THREADS", "3")
    rows = {row["variable"]: row for row in map(json.loads, run("settings").out.splitlines())}
    assert rows.keys() == {f"BELIEFSTREAM_{name.upper()}" for name in Settings.model_fields}
    assert all(row["description"] for row in rows.values())
    threads = rows["BELIEFSTREAM_THREADS"]
    assert (threads["default"], threads["current"]) == ("1", "3")
    assert rows["BELIEFSTREAM_COMPILED"]["default"] == rows["BELIEFSTREAM_COMPILED"]["current"]
    table = run("settings", "--format", "table").out
    assert "BELIEFSTREAM_THREADS" in table
    assert "Undefined" not in table and "Undefined" not in str(rows)
