from __future__ import annotations

import csv
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from beliefstream.streams.kafka.connection import TopicReader
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import GPS, WALKER

COUNT = 30
START = 1_700_000_000.0
OWN = ("--sensors", GPS, "--models", WALKER, "--map", "value=x,y", "--set", "sensor=gps")
SCORED = (*OWN, "--truth", "truth.csv", "--score", "--particles", "200")


def place(number: float) -> tuple[float, float]:
    return 3 * math.cos(number / 20), 3 * math.sin(number / 20)


@pytest.fixture(autouse=True)
def files(small_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two boats on a circle, seen with 2 m of noise; the truth is told more often, and in feet too."""
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))
    noise = np.random.default_rng(3).normal(0, 2, (COUNT, 2, 2))
    with (tmp_path / "log.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "entity", "x", "y"])
        for number in range(COUNT):
            for boat, name in enumerate("ab"):
                x, y = np.add(place(number + boat), noise[number, boat]).tolist()
                rows.writerow([START + number, name, x, y])
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["time", "entity", "x", "y", "depth"])
        for number in np.arange(0, COUNT, 0.5).tolist():
            for boat, name in enumerate("ab"):
                rows.writerow([START + number, name, *place(number + boat), 7])


def test_a_recording_of_ones_own_is_scored_against_its_truth(run: Run, tmp_path: Path) -> None:
    result = run("replay", "log.csv", *SCORED, "--json", "--output", "out.csv")
    assert result.status == 0, result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    ours = [row for row in rows if row["method"] == "Beliefstream"]
    assert [(row["recording"], row["cases"]) for row in ours] == [
        ("log.csv: a", COUNT),
        ("log.csv: b", COUNT),
    ]
    assert len(rows) == 5 * 2
    for row in rows:
        assert row["rmse"] < 2.0  # m: better than a single report, whose errors are of 2.8 m
    assert "log.csv: a" in result.err
    with (tmp_path / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * COUNT


def test_columns_of_the_truth_may_be_called_otherwise(run: Run, tmp_path: Path) -> None:
    text = (tmp_path / "truth.csv").read_text().replace("time,entity,x,y", "t,boat,east,north")
    (tmp_path / "truth.csv").write_text(text)
    options = [f"--truth-map={each}" for each in ("time=t", "entity=boat", "x=east", "y=north")]
    result = run("replay", "log.csv", *SCORED, *options)
    assert result.status == 0, result.err
    assert "gated" in result.out


def test_bad_rows_of_both_files_are_told_and_left_out(run: Run, tmp_path: Path) -> None:
    for name, line in (("log.csv", "1,a,far,2"), ("truth.csv", "1,a,0,,7")):
        with (tmp_path / name).open("a") as file:
            file.write(f"{line}\n")
    result = run("replay", "log.csv", *SCORED, "--json")
    assert result.status == 0, result.err
    first, second = result.err.splitlines()[:2]
    assert first.startswith(f"line {2 * COUNT + 2}: ") and "value[0]: " in first and "'far'" in first
    assert second.startswith(f"line {4 * COUNT + 2}: invalid: value[1]")
    assert json.loads(result.out.splitlines()[0])["cases"] == COUNT


def test_a_recording_of_ones_own_is_sent_with_times_that_begin_now(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    began = time.time()
    result = run("replay", "log.csv", *OWN, "--speed", "0")
    assert result.status == 0, result.err
    assert f"sent {2 * COUNT} observations of 2 entities" in result.out
    with TopicReader(embedded_broker.bootstrap_servers, topics.topics.observations, {}) as reader:
        seen = sorted(json.loads(record.value)["time"] for record in reader.read_all(20))
    assert began <= seen[0] < time.time()
    assert seen[-1] - seen[0] == pytest.approx(COUNT - 1, abs=1e-3)
    model = json.loads(run("models", "list").out)
    assert (model["entity"], model["live_time"]) == ("*", False)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("nowhere.csv", *SCORED), ("nowhere.csv: No such file or directory",)),
        (("log.csv", "--models", WALKER), ("--sensors",)),
        (("log.csv", *OWN, "--score"), ("--truth", "beliefstream fuse")),
        (("log.csv", *OWN, "--out", "x.csv"), ("--truth", "beliefstream fuse")),
        (("log.csv", *OWN, "--truth", "truth.csv", "--json"), ("--json needs --score",)),
        (("log.csv", *SCORED, "--truth-map", "x"), ("--truth-map", "'x'")),
        (("log.csv", *SCORED, "--truth-map", "time=t"), ("truth.csv: no column 't' for time",)),
        (
            ("log.csv", *OWN, "--truth", "far.csv"),
            ("no observation of 'a' lies within the times of its truth, 1 to 2",),
        ),
        (("log.csv", *OWN, "--truth", "other.csv"), ("of none of the entities that were observed: a, b",)),
        (("log.csv", *OWN, "--truth", "nobody.csv"), ("nobody.csv: no column 'entity'",)),
        (("log.csv", *OWN, "--truth", "depths.csv"), ("no column is a coordinate (x, y)", "time, depth")),
        (("log.csv", *SCORED, "--sensors", "s.yaml"), ("s.yaml: line 1: ", "'nothing'")),
    ],
)
def test_what_cannot_be_replayed_is_one_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    (tmp_path / "far.csv").write_text("time,entity,x,y\n1,a,0,0\n2,a,0,0\n")
    (tmp_path / "other.csv").write_text("time,entity,x,y\n1,c,0,0\n")
    (tmp_path / "nobody.csv").write_text("time,x,y\n1,0,0\n")
    (tmp_path / "depths.csv").write_text("time,depth\n1,0\n")
    (tmp_path / "s.yaml").write_text("- {sensor: gps, kind: nothing}\n")
    assert_one_line(run("replay", *arguments), *parts)


@pytest.mark.parametrize("input", ["log.csv", "truth.csv"])
def test_an_output_that_is_an_input_is_refused(run: Run, tmp_path: Path, input: str) -> None:
    before = (tmp_path / input).read_bytes()
    assert_one_line(run("replay", "log.csv", *SCORED, "--output", input), f"{input}: is an input")
    assert (tmp_path / input).read_bytes() == before
