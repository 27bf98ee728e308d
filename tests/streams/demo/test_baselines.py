"""The program that runs the demonstration's baselines beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from beliefstream.streams.demo.scenario import Scenario
from tests.conftest import eventually


@pytest.mark.timeout(120)
def test_processes_of_the_baselines_end_with_the_program_that_started_them(tmp_path: Path) -> None:
    scenario = Scenario(speed=18.0, entities=2, start=1.7e9).to_json()
    command = [
        sys.executable,
        "-m",
        "beliefstream.streams.demo.baselines",
        scenario,
        str(tmp_path / "answers"),
    ]
    with subprocess.Popen(command) as program:
        try:
            started = psutil.Process(program.pid)

            def workers() -> list[psutil.Process]:
                return [each for each in started.children() if "spawn_main" in " ".join(each.cmdline())]

            busy = eventually(
                lambda: [each for each in workers() if each.cpu_times().user > 1], 90, "a baseline is run"
            )
            found = {*busy, *workers()}
        finally:
            program.kill()
    gone, alive = psutil.wait_procs(found, timeout=20)
    assert gone and not alive
