from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import NOBODY, Run, assert_one_line, environment


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--host", "0.0.0.0"], ["--host 0.0.0.0", "--token"]),
        (["--token", "short"], ["WEB_TOKEN", "16"]),
        (["--read-token", "short"], ["LIVE_READ_TOKEN", "16"]),
        (["--plane", "x"], ["--plane", "'x'"]),
        (["--tiles", "example.org"], ["map tiles", "'example.org'", "{z}/{x}/{y}"]),
        (["--floor-plan", "none.yaml"], ["none.yaml", "No such file"]),
        (["--port", "0"], [NOBODY]),
    ],
)
def test_what_is_wrong_is_one_line(run: Run, arguments: list[str], parts: list[str]) -> None:
    assert_one_line(run("live", *arguments), *parts)


def test_a_port_in_use_is_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert_one_line(run("live", "--port", port), f"127.0.0.1:{port}", "--port")


def test_the_command_serves_the_page_until_it_is_told_to_end(
    topics: Names, embedded_broker: EmbeddedNode
) -> None:
    command = [str(Path(sys.executable).with_name("beliefstream")), "live", "--port", "0"]
    variables = environment(embedded_broker.bootstrap_servers, topics)
    with subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        address = serving.stdout.readline().split()[-1]
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert "Beliefstream: live" in answer.read().decode()
        serving.terminate()
        assert serving.wait(30) == 0
