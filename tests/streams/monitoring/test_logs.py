"""What a worker's log has of its libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("level", "lines"), [("INFO", ["refused"]), ("DEBUG", ["ran for 0.127s", "refused"])]
)
def test_a_slow_task_of_kafkas_client_is_no_warning_for_operators(level: str, lines: list[str]) -> None:
    program = (
        "import logging, sys; from beliefstream.streams.monitoring import logs; logs.configure('json', sys.argv[1]);"
        "logging.getLogger('kafka.net.selector').warning('ran for 0.127s');"
        "logging.getLogger('kafka.client').warning('refused')"
    )
    ended = subprocess.run([sys.executable, "-c", program, level], capture_output=True, check=True, text=True)
    found = ended.stderr.splitlines()
    assert len(found) == len(lines)
    assert all(text in line for line, text in zip(found, lines, strict=True))
