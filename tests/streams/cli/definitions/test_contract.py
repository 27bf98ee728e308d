from __future__ import annotations

import json
from pathlib import Path

from tests.streams.cli.conftest import Run, assert_one_line


def test_the_contract_is_written(run: Run, tmp_path: Path) -> None:
    result = run("contract", "made")
    assert result.status == 0
    assert json.loads((tmp_path / "made" / "asyncapi.json").read_text())["asyncapi"] == "3.0.0"
    assert len(result.out.splitlines()) == len(list((tmp_path / "made").iterdir()))


def test_a_contract_cannot_be_written_where_a_file_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("")
    assert_one_line(run("contract", "made"), "made")
