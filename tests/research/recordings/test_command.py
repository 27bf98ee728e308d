from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.cli.offline.replay_scores import fuse_recordings
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.scores.methods import classical
from beliefstream.streams.settings import Settings
from research.recordings.plaza import plaza
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line

OBSERVATIONS = 40


def test_a_recording_is_fused_offline_and_scored_beside_the_baselines(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = plaza("plaza2")
    part = dataclasses.replace(whole, observations=whole.observations[:OBSERVATIONS], scored_from=0.0)
    out = tmp_path / "posteriors.jsonl"
    fuse_recordings(Settings(weights=str(small_weights)), [part], classical(particles=500), out, as_json=True)
    lines = out.read_bytes().splitlines()
    assert len(lines) == OBSERVATIONS
    assert parse(Posterior, lines[-1]).sequence == OBSERVATIONS
    assert json.loads(lines[0])["applied"] == ["line:1"]
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["method"] for row in rows] == [
        "Beliefstream",
        "extended Kalman",
        "iterated Kalman",
        "particles 500",
        "gated Kalman",
    ]
    for row in rows:
        assert row["cases"] == OBSERVATIONS
        assert row["rmse"] < 5.0  # m: near the truth, where a mistake in axes or times would not be


def test_options_that_need_others_say_so(run: Run, tmp_path: Path) -> None:
    assert_one_line(run("recordings", "plaza9"), "plaza9")
    assert_one_line(run("recordings", "plaza1", "--score"), "--offline")
    assert_one_line(run("recordings", "plaza1", "--offline", "--json"), "--score")
    assert_one_line(run("recordings", "all"), "--offline")
    assert_one_line(run("recordings", "plaza2", "--offline", "--limit", "2"), "limit")
    assert_one_line(run("recordings", "ble_rssi", "--offline", "--data", str(tmp_path)), "BELIEFSTREAM_DATA")
    assert_one_line(run("recordings", "plaza1", "--health"), "--offline")
    assert_one_line(run("recordings", "plaza1", "--offline", "--fit", "evidence"), "needs --score")
    assert_one_line(run("recordings", "plaza1", "--offline", "--score", "--fit", "truth"), "takes `evidence`")
    assert_one_line(run("recordings", "plaza1", "--offline", "--health", "--score"), "without --score")
    assert_one_line(run("recordings", "plaza1", "--offline", "--uncalibrated"), "--health")


def test_sensors_of_a_recording_are_judged(run: Run, small_weights: Path) -> None:
    options = ("--offline", "--health", "--uncalibrated", "--limit", "0.03", "--json")
    found = run("recordings", "plaza2", *options)
    assert found.status == 0, found.err
    name, *rows = found.out.splitlines()
    assert name == "plaza2"
    judged = {row["sensor"]: row for row in map(json.loads, rows)}
    assert len(judged) == 4
    assert sum(row["channels"][0]["count"] for row in judged.values()) > 100


def test_a_recording_is_replayed_under_the_name_asked_for(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    began = time.time()
    result = run("recordings", "plaza2", "--speed", "0", "--entity", "car")
    assert "sent 1816 observations of 1 entity" in result.out, result.err
    with TopicReader(embedded_broker.bootstrap_servers, topics.topics.observations, {}) as reader:
        seen = [json.loads(record.value) for record in reader.read_all(20)]
    assert {each["entity"] for each in seen} == {"car"}
    assert began <= min(each["time"] for each in seen) < time.time()
