from __future__ import annotations

import json
from pathlib import Path

import pytest

from beliefstream.streams.settings import Settings
from tests.streams.cli.conftest import Run, assert_one_line


def test_settings_are_listed_with_what_they_are_now(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_THREADS", "3")
    rows = {row["variable"]: row for row in map(json.loads, run("settings").out.splitlines())}
    assert rows.keys() == {f"BELIEFSTREAM_{name.upper()}" for name in Settings.model_fields}
    assert all(row["description"] for row in rows.values())
    threads = rows["BELIEFSTREAM_THREADS"]
    assert (threads["default"], threads["current"]) == ("1", "3")
    table = run("settings", "--table").out
    assert "BELIEFSTREAM_THREADS" in table
    assert "Undefined" not in table and "Undefined" not in str(rows)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("BELIEFSTREAM_BACTH", "BELIEFSTREAM_BATCH"),
        ("BELIEFSTREAM_WEB_TOKN_FILE", "BELIEFSTREAM_WEB_TOKEN_FILE"),
        ("beliefstream_refine_bellow", "BELIEFSTREAM_REFINE_BELOW"),
    ],
)
@pytest.mark.parametrize("is_in_a_file", [False, True])
def test_a_variable_that_is_almost_a_setting_is_an_error(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variable: str,
    meant: str,
    is_in_a_file: bool,
) -> None:
    if is_in_a_file:
        (tmp_path / ".env").write_text(f"OTHER=1\n{variable}=0.5\n")
    else:
        monkeypatch.setenv(variable, "0.5")
    assert_one_line(run("settings"), f"{variable.upper()}: there is no such setting; is it {meant}?")


def test_variables_that_others_set_are_no_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # Kubernetes sets the first four for a service `beliefstream`
    names = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_8080_TCP_ADDR", "DATA", "EXACT", "VERSION")
    for name in names:
        monkeypatch.setenv(f"BELIEFSTREAM_{name}", "1")
    monkeypatch.setenv("OTHER_BACTH", "1")
    assert run("settings").status == 0


@pytest.mark.parametrize("command", [("worker",), ("topics", "create")])
def test_two_topics_of_one_name_are_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_OBSERVATIONS", "posteriors")
    both = "BELIEFSTREAM_OBSERVATIONS and BELIEFSTREAM_POSTERIORS: both are the topic 'posteriors'"
    assert_one_line(run(*command), both)
