"""What the doctor says of a worker, of its clock, and of what it computes with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from beliefstream.inference.mixtures import native
from beliefstream.inference.network import weights
from beliefstream.streams.cli.doctor.run import (
    Status,
    examine_device,
    examine_native_code,
    examine_weights,
    examine_worker,
)
from beliefstream.streams.settings import Settings
from tests.streams.cli.doctor.test_run import problem


@contextmanager
def worker_of_another_time(ahead: float) -> Iterator[str]:
    """The URL of a server that is ready, and whose clock is `ahead` of ours, seconds."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"ready": true, "waiting_for": [], "assigned": ["observations-0"]}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(round(time.time() + ahead) if timestamp is None else timestamp)

        def log_message(self, format: str, *values: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("ahead", "told"), [(3600.0, "3600 s behind the worker's"), (-3600.0, "3600 s ahead of the worker's")]
)
def test_a_clock_an_hour_off_the_workers_is_found(ahead: float, told: str) -> None:
    with worker_of_another_time(ahead) as url:
        worker, clock = examine_worker(url)
    assert worker.status is Status.ok
    assert clock.status is Status.problem and clock.remedy
    seconds, words = told.split(" ", 1)
    given, rest = clock.detail.split(" ", 1)
    assert rest == words
    assert abs(int(given) - int(seconds)) <= 2


def test_a_clock_that_agrees_with_the_workers_is_well() -> None:
    with worker_of_another_time(0.0) as url:
        findings = {finding.subject: finding.status for finding in examine_worker(url)}
    assert findings == {"worker": Status.ok, "clock": Status.ok}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_found() -> None:
    problem(examine_device(Settings(device="cuda")), "no CUDA device")


def test_weights_that_are_not_whole_are_found(tmp_path: Path) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(weights.path_of().read_bytes()[:1000])
    problem(examine_weights(Settings(weights=str(torn))), str(torn))
    assert examine_weights(Settings()).status is Status.ok


@pytest.mark.parametrize("portable", [True, False])
def test_it_is_said_which_processors_native_code_is_for(
    portable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "IS_PORTABLE", portable)
    found = examine_native_code()
    assert found.status is Status.ok
    assert ("this processor" in found.detail) != portable
    assert native.processor() in found.detail
