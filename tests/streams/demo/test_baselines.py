"""The program that runs the demonstration's baselines beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PROGRAM = """
import os
from beliefstream.streams.demo.baselines import pool

if __name__ == "__main__":
    with pool(1) as started:
        print(started.submit(os.getpid).result(), flush=True)
        input()
"""


@pytest.mark.timeout(120)
def test_processes_of_the_baselines_end_with_the_program_that_started_them(tmp_path: Path) -> None:
    file = tmp_path / "program.py"  # which the processes of its pool import
    file.write_text(PROGRAM)
    command = [sys.executable, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        found = psutil.Process(int(program.stdout.readline()))
        program.kill()
    gone, _ = psutil.wait_procs([found], timeout=60)
    assert gone
