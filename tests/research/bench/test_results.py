"""The JSON of a benchmark says by broker and by reports what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from beliefstream.streams.cli.main import run
from research.bench.__main__ import app
from research.bench.contradicted import Contradicted
from research.bench.devices import DeviceSpeed
from research.bench.end_to_end.latency import Latency
from research.bench.end_to_end.stream import Rate, Throughput
from research.bench.late_observations import Cost
from research.bench.results import Results
from research.bench.update import Speed


def test_every_figure_is_under_its_broker_and_its_reports(tmp_path: Path) -> None:
    results = Results([Speed("update, tracks", 9000.0, "batch 512")])
    results.throughputs["kafka", "20"] = Throughput(Rate(8000.0, 1e-4), Rate(3900.0, 4e-4), 4000.0, 20_000)
    results.throughputs["embedded", "60"] = Throughput(
        Rate(8000.0, 1e-4), Rate(9000.0, 2e-4), 10_000.0, 60_000
    )
    results.latencies["kafka"] = Latency(100.0, 14.0, 25.0, 1100, 0)
    results.workers = {("embedded", 1): 1000.0, ("embedded", 2): 1700.0}
    results.devices = [DeviceSpeed("tracks", 512, 6000.0, 0.25, 10**9)]
    results.late = [Cost(0, 1.0, 0.5), Cost(8, 9.0, 2.0)]
    results.contradicted = Contradicted(3000.0, 1500.0)
    results.path = tmp_path / "found.json"
    results.save()
    found = json.loads((tmp_path / "found.json").read_text())
    assert re.fullmatch(r".+, \d+ cores", found["machine"])
    assert found["posteriors_per_second"] == {"update, tracks": 9000.0}
    assert found["of_stone_soup"] == {"update, tracks": 1.0}
    assert found["notes"] == {"update, tracks": "batch 512"}
    assert found["of_the_echo"] == {"kafka": {"20": 0.5}, "embedded": {"60": 1.25}}
    assert found["cpu_of_the_echo"] == {"kafka": {"20": 0.25}, "embedded": {"60": 0.5}}
    assert found["observations_per_second"]["kafka"]["20"] == {
        "echo": 8000.0,
        "worker": 4000.0,
        "posteriors": 3900.0,
        "observations": 20_000,
    }
    assert found["latency_ms"]["kafka"]["median"] == 14.0
    assert found["latency_ms"]["kafka"]["ninety_five"] == 25.0
    assert found["workers_per_second"] == {"embedded": {"1": 1000.0, "2": 1700.0}}
    speed = {"family": "tracks", "size": 512, "per_second": 6000.0, "waiting": 0.25, "memory": 10**9}
    assert found["of_one_worker"] == {"embedded": {"1": 1.0, "2": 1.7}}
    assert found["late"] == {"0": 1.0, "8": 4.0}
    assert found["contradicted"] == {"usual": 3000.0, "contradicted": 1500.0, "share": 0.5}
    assert found["by_batch_size"] == [speed]


@pytest.mark.parametrize(
    ("option", "value"),
    [("--brokers", ""), ("--json", "no-such-folder/found.json"), ("--sizes", "x"), ("--device", "abacus")],
)
def test_wrong_options_are_told_before_anything_is_measured(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(app, "bench", [option, value])
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert option.strip("-").upper() in told.err.upper()
