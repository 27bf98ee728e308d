"""A worker, and the broker command, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.local.broker import ask_for_metadata, free_port
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually, unique_names
from tests.streams.cli.conftest import Run, assert_one_line, environment, set_environment
from tests.streams.cli.examples import BEACON, GPS, WALKER

PATIENCE = 60.0  # seconds; a worker is ready in 10 s on an idle machine
COMMAND = [sys.executable, "-c", "from beliefstream.streams.cli import main; main()"]


@dataclass
class Worker:
    """A running worker and the variables that it was set up with."""

    process: subprocess.Popen[bytes]
    variables: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.variables['BELIEFSTREAM_WEB_ADDRESS']}"


@pytest.fixture(scope="module")
def worker(
    embedded_broker: EmbeddedNode, small_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    directory = tmp_path_factory.mktemp("worker")
    variables = environment(embedded_broker.bootstrap_servers, unique_names()) | {
        "BELIEFSTREAM_WEIGHTS": str(small_weights),
        "BELIEFSTREAM_WEB_ADDRESS": f"127.0.0.1:{free_port()}",
        "BELIEFSTREAM_SESSION_TIMEOUT": "6",
    }
    log = directory / "worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "worker", "--create-topics"],
            env={**os.environ, **variables, "PYTHONPATH": os.getcwd()},
            cwd=directory,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Worker(process, variables, log)
    finally:
        process.kill()
        process.wait()


def ready(worker: Worker) -> bool:
    assert worker.process.poll() is None, worker.log.read_text()
    try:
        with urllib.request.urlopen(f"{worker.url}/readyz", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def test_what_is_observed_comes_back_as_a_posterior(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, worker.variables)
    eventually(lambda: ready(worker), PATIENCE, "the worker is ready")
    assert run("models", "set", WALKER).status == 0
    assert run("sensors", "set", BEACON).status == 0
    assert run("observe", "mower", "beacon-1", "4.5", "--id", "first").status == 0
    result = run("posteriors", "--from-beginning", "--count", "1", "--timeout", str(PATIENCE))
    assert result.status == 0, result.err
    posterior = parse(Posterior, result.out.encode())
    assert (posterior.entity, posterior.sequence, posterior.applied) == ("mower", 1, ("first",))
    table = run("posteriors", "--from-beginning", "--count", "1", "--timeout", "20", "--table")
    assert re.search(r"mower  #1  x \S+ ± \S+ m, y", table.out)


def test_no_posterior_in_time_is_told(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, worker.variables)
    result = run("posteriors", "--entity", "nobody", "--from-beginning", "--count", "1", "--timeout", "0.5")
    assert_one_line(result, "0 of 1 posteriors")
    result = run("posteriors", "--entity", "nobody", "--timeout", "0.1")
    assert (result.status, result.out) == (0, "")


def test_the_worker_is_watched_and_found_well(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, worker.variables)
    seen = run("watch", "--duration", "3")
    assert seen.status == 0, seen.err
    assert "observations/s" in seen.out
    unseen = run("watch", "--duration", "3", "--url", "http://127.0.0.1:1")
    assert "no worker answers at http://127.0.0.1:1" in unseen.out
    health = run("doctor")
    assert health.status == 0, health.out
    assert "worker: ready" in health.out
    assert "clock: agrees" in health.out


def test_a_message_is_followed_from_its_failure_to_its_posterior(
    worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor is defined too late: the dead letter is found, sent again, and fails or becomes a posterior."""
    set_environment(monkeypatch, worker.variables)
    eventually(lambda: ready(worker), PATIENCE, "the worker is ready")
    assert run("models", "set", WALKER).status == 0
    assert run("sensors", "set", BEACON).status == 0
    applied = run("observe", "boat", "beacon-1", "4.5", "--json")
    assert applied.status == 0, applied.err
    assert parse(Posterior, applied.out.encode()).entity == "boat"
    for number in range(3):
        failed = run("observe", "boat", "gps", "1", "2", "--table", "--id", f"late-{number}")
        assert_one_line(failed, "dead letter: unknown_sensor", "'gps'")
    health = run("doctor")
    assert health.status == 1
    assert "problem  dead-letters: 3 in the last hour: unknown_sensor 3; the newest" in health.out
    only = ("dead-letters", "--sensor", "gps", "--entity", "boat")
    early = run(*only, "--replay", "--yes", "--limit", "1")
    assert (early.status, len(early.out.splitlines())) == (0, 1), early.err

    def failed_again() -> list[dict[str, Any]]:
        shown = map(json.loads, run(*only).out.splitlines())
        return [each for each in shown if each["replay_of"] is not None]

    (again,) = eventually(failed_again, PATIENCE, "the replay is a dead letter")
    assert again["replay_of"] == json.loads(early.out)["dead_letter"]
    assert run("sensors", "set", GPS).status == 0
    mended = run(*only, "--replay", "--yes")
    sent = [json.loads(line) for line in mended.out.splitlines()]
    assert len(sent) == 2, mended.err  # neither the one that was sent again, nor the one that failed again
    assert "left out: 1 that were sent again before; " in mended.err
    assert "left out: 1 that were sent again before and have failed again" in mended.err

    def applied_now() -> bool:
        read = run("posteriors", "--entity", "boat", "--from-beginning", "--timeout", "0.5", "--json")
        found = [name for line in read.out.splitlines() for name in parse(Posterior, line.encode()).applied]
        return {"late-0", "late-1"} <= {*found} and "late-2" not in found

    eventually(applied_now, PATIENCE, "the observations are applied")
    log = [line for line in worker.log.read_text().splitlines() if "dead letter" in line]
    assert "unknown_sensor" in log[0] and "boat" in log[0]


def test_a_port_that_is_taken_is_told(worker: Worker, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, worker.variables)
    assert_one_line(run("worker"), worker.variables["BELIEFSTREAM_WEB_ADDRESS"], "BELIEFSTREAM_WEB_ADDRESS")


@pytest.mark.parametrize("fault", ["cut", "of another shape", "absent"])
def test_weights_that_cannot_be_used_are_told_before_anything_runs(
    topics: Names, run: Run, monkeypatch: pytest.MonkeyPatch, small_weights: Path, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / "mine.safetensors"
    if fault == "cut":
        path.write_bytes(small_weights.read_bytes()[:-100])
    elif fault == "of another shape":
        with safe_open(small_weights, "pt") as file:
            metadata = file.metadata()
        save_file({**load_file(small_weights), "embed": torch.zeros(2)}, path, metadata)
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(path))
    monkeypatch.setenv("BELIEFSTREAM_WEB_ADDRESS", f"127.0.0.1:{free_port()}")
    status, _, told = run("worker")
    started, error = told.splitlines()
    assert status == 1
    assert "the worker starts" in started
    assert error.startswith("beliefstream: weights: ")
    assert str(path) in error


def test_topics_that_are_missing_are_told(
    embedded_broker: EmbeddedNode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(monkeypatch, environment(embedded_broker.bootstrap_servers, unique_names()))
    assert_one_line(run("worker"), "does not exist", "topics create")


def test_sigterm_ends_the_worker_with_status_0(worker: Worker) -> None:
    eventually(lambda: ready(worker), PATIENCE, "the worker is ready")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(PATIENCE) == 0, worker.log.read_text()
    assert "\x1b" not in worker.log.read_text()
    log = worker.log.read_text()
    if "dead letter" in log:  # of the test before: what is not counted yet is counted at the end
        counted = [json.loads(line) for line in log.splitlines() if "dead letters" in line]
        assert counted and counted[-1]["since_start"] == 4


def test_the_broker_takes_another_port_says_so_and_ends_at_sigterm() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        process = subprocess.Popen(
            [*COMMAND, "broker", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline().decode().startswith(f"port {port} is taken")
            address = process.stdout.readline().decode().split()[-1]
            ask_for_metadata(address)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, err) == (0, b"")
    with pytest.raises(OSError, match="refused"):
        ask_for_metadata(address)
