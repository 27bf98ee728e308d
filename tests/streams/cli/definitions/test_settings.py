from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from beliefstream.streams.settings import Settings
from beliefstream.streams.settings.variables import REPLACED
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
        ("beliefstream_log_levl", "BELIEFSTREAM_LOG_LEVEL"),
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
    monkeypatch.setenv("BELIEFSTREAM_TOPICS", "observations=posteriors")
    both = "BELIEFSTREAM_TOPICS: observations and posteriors are both 'posteriors'"
    assert_one_line(run(*command), both)


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("is_in_a_file", [False, True])
def test_a_variable_of_an_earlier_version_is_an_error_that_names_what_replaces_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, is_in_a_file: bool
) -> None:
    variable = f"BELIEFSTREAM_{name.upper()}"
    if is_in_a_file:
        (tmp_path / ".env").write_text(f"{variable}=1\n")
    else:
        monkeypatch.setenv(variable, "1")
    assert_one_line(run("worker"), f"{variable}: is not used any more; set {REPLACED[name]} instead")
    assert name not in Settings.model_fields


def test_what_replaces_a_variable_exists() -> None:
    named = {found for text in REPLACED.values() for found in re.findall(r"BELIEFSTREAM_([A-Z_]+)", text)}
    assert {name.lower() for name in named} <= set(Settings.model_fields)


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("BELIEFSTREAM_ACCURACY", "exact", "'fast', 'normal' or 'thorough'"),
        ("BELIEFSTREAM_TOPICS", "seen=plant.seen", "the topic one of observations"),
        ("BELIEFSTREAM_TOPICS", "priors=a,priors=b", "each topic once"),
        ("BELIEFSTREAM_WEB_ADDRESS", "8080", "expected host:port"),
        ("BELIEFSTREAM_GATEWAY_ADDRESS", "::1:8081", "expected host:port"),
        ("BELIEFSTREAM_BRIDGE_ADDRESS", "127.0.0.1:80820", "expected host:port"),
        ("BELIEFSTREAM_MQTT_URL", "broker:1883", "expected mqtt://user@host:port"),
        ("BELIEFSTREAM_MQTT_URL", "mqtt://broker/topic", "expected mqtt://user@host:port"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, fault: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert_one_line(run("settings"), f"{variable}: ", fault, value)


def test_a_password_in_the_url_of_an_mqtt_broker_is_not_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_MQTT_URL", "mqtts://bridge:hunter2@broker")
    result = run("settings")
    assert_one_line(result, "BELIEFSTREAM_MQTT_PASSWORD")
    assert "hunter2" not in result.err
