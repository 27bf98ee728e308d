from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from schemas import Posterior, parse
from streams.cli.scoring import fuse_recording
from streams.recordings import plaza
from streams.settings import Settings

OBSERVATIONS = 60


def test_a_recording_is_fused_offline_and_scored_beside_the_baselines(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = plaza("plaza2")
    part = dataclasses.replace(whole, observations=whole.observations[:OBSERVATIONS])
    out = tmp_path / "posteriors.jsonl"
    fuse_recording(Settings(weights=str(small_weights)), part, score=True, out=out)
    lines = out.read_bytes().splitlines()
    assert len(lines) == OBSERVATIONS
    assert parse(Posterior, lines[-1]).sequence == OBSERVATIONS
    assert json.loads(lines[0])["applied"] == ["line:1"]
    table = capsys.readouterr().out
    for row in ("Beliefstream", "extended Kalman filter", "particle filter"):
        (line,) = (line for line in table.splitlines() if row in line)
        cells = [cell.strip() for cell in line.split("│")[2:-1]]
        assert int(cells[0]) == OBSERVATIONS
        assert float(cells[1]) < 5.0  # m: near the truth, where a mistake in axes or times would not be
