from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Names
from tests.schemas.kinds import SENSORS
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import BEACON, WALKER


def test_the_doctor_finds_no_fault_where_all_is_there(
    run: Run, topics: Names, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))
    assert run("sensors", "set", BEACON).status == 0
    assert run("models", "set", WALKER).status == 0
    result = run("doctor", "--url", "http://127.0.0.1:1")
    assert result.status == 0, result.out
    found = {
        line.split()[1].rstrip(":"): line.split()[0] for line in result.out.splitlines() if "→" not in line
    }
    skipped = {"worker", "clock", "partitioner", "clocks", "losses"}
    assert found == {
        subject: "skipped" if subject in skipped else "ok"
        for subject in (
            "broker",
            "topics",
            "models",
            "sensors",
            "measurements",
            "sensor-health",
            "install",
            "device",
            "weights",
            "native-code",
            "group",
            "dead-letters",
            *skipped,
        )
    }


def test_the_doctor_says_how_to_mend_what_is_missing(
    run: Run, topics: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", "no-such-weights")
    result = run("doctor", "--url", "http://127.0.0.1:1")
    assert_one_line(result, "3 problems")
    for remedy in ("beliefstream models set", "beliefstream sensors set", "BELIEFSTREAM_WEIGHTS"):
        assert remedy in result.out


def test_the_doctor_finds_measurements_that_are_not_there(
    run: Run, topics: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = json.dumps({**SENSORS["own"], "measurement": "nobodys"})
    assert run("sensors", "set", own).status == 0
    learned = json.dumps({**SENSORS["learned"], "weights": "nobodys.safetensors"})
    assert run("sensors", "set", learned).status == 0
    # where a line breaks follows from the length of the path to the weights
    found = " ".join(run("doctor", "--url", "http://127.0.0.1:1").out.split())
    assert "sensor own-1: function: no measurement is registered as 'nobodys'" in found
    assert "nobodys.safetensors cannot be read: No such file or directory" in found
    assert "→ name the module that registers it in BELIEFSTREAM_MEASUREMENTS" in found
    monkeypatch.setenv("BELIEFSTREAM_MEASUREMENTS", "no_such_module")
    assert "no_such_module cannot be imported" in run("doctor", "--url", "http://127.0.0.1:1").out


def test_the_doctor_does_not_stop_at_a_broker_that_is_away(run: Run) -> None:
    result = run("doctor", "--url", "http://127.0.0.1:1")
    assert result.status == 1
    assert "→ start one (beliefstream broker)" in result.out
    listed = run("doctor", "--url", "http://127.0.0.1:1", "--json")
    assert listed.status == 1
    broker, *_ = map(json.loads, listed.out.splitlines())
    assert (broker["subject"], broker["status"]) == ("broker", "problem")
    assert broker["remedy"].startswith("start one (beliefstream broker)")
    assert "device" in result.out
