"""The table of who answers has a row for each source, and its shares are of all posteriors after observations."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from beliefstream.schemas.beliefs.posterior import Method
from research import answers


def test_every_method_has_a_column() -> None:
    named = [method for methods in answers.COLUMNS.values() for method in methods]
    assert sorted([*named, "prior"]) == sorted(get_args(Method))


def test_the_shares_of_a_fleet_and_a_recording_add_up_to_all() -> None:
    pytest.importorskip("gtsam", reason="it carries the recording")
    app = typer.Typer()
    app.command()(answers.main)
    result = CliRunner().invoke(app, ["plaza1", "--share", "0.01", "--entities", "3", "--duration", "5"])
    rows = result.output.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| simulated fleet", "| plaza1"]
    for row in rows:
        assert sum(map(float, re.findall(r"([\d.]+) %", row))) == pytest.approx(100, abs=0.3)
