from __future__ import annotations

from pathlib import Path

import numpy as np

from beliefstream.schemas import Observation, Posterior, parse
from tests.streams.cli.conftest import Run
from tests.streams.odometry import MODEL, ODOMETRY, SENSORS, drive
from tests.streams.oracle import distance, expected


def test_fuse_drives_by_odometry(run: Run, tmp_path: Path) -> None:
    reports, end = drive("robot", seed=3)
    ranges = [seen for seen in reports if seen.sensor != ODOMETRY.sensor]
    lines = [*(sensor.to_json() for sensor in SENSORS), MODEL.to_json()]

    def fused(observations: list[Observation]) -> list[Posterior]:
        (tmp_path / "log.jsonl").write_bytes(b"\n".join([*lines, *(seen.to_json() for seen in observations)]))
        result = run("fuse", "log.jsonl", "--out", "out.jsonl", "--strict")
        assert result.status == 0, result.err
        return [parse(Posterior, line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]

    found = fused(reports)
    assert [each.applied for each in found] == [(seen.id,) for seen in ranges]
    assert found[-1].sequence == len(reports)
    outcomes = expected(MODEL, SENSORS, reports)["robot"]
    assert max(distance(each.mixture, due) for each, due in zip(found, outcomes, strict=True)) < 1e-6
    errors = [
        float(np.linalg.norm(each[-1].mixture.mean()[:2] - np.array(end))) for each in (found, fused(ranges))
    ]
    assert errors[0] < 0.5  # m
    assert errors[1] > 4 * errors[0]
    assert errors[1] > 2.0
