"""Methods of the update are left out, and are there again afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from research.ablation.__main__ import WHOLE, app
from research.ablation.methods import METHODS, without


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_left_out_and_is_there_again(method: str) -> None:
    before = [getattr(owner, name) for owner, name, _ in METHODS[method]]
    with without(method):
        assert [getattr(owner, name) for owner, name, _ in METHODS[method]] == [
            other for _, _, other in METHODS[method]
        ]
    assert [getattr(owner, name) for owner, name, _ in METHODS[method]] == before


def test_a_row_has_the_figures_of_a_set_without_a_method(tmp_path: Path) -> None:
    file = tmp_path / "ablation.json"
    arguments = ["plane, around a sensor", "--only", "fleet", "--seed", "5", "--json", str(file)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(file.read_text())["fleet"]
    assert set(rows) == {WHOLE, arguments[0]}
    assert rows[WHOLE]["figures"]["seconds"] < rows[arguments[0]]["figures"]["seconds"]
    assert len(rows[WHOLE]["losses"]) == 50 * 44
