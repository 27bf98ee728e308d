"""The whole demonstration, shortened, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import eventually

pytestmark = [
    pytest.mark.programs,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name != "posix", reason="processes are counted with ps"),
]

COMMAND = [sys.executable, "-c", "from beliefstream.streams.cli import main; main()", "demo"]
SHORT = ["--duration", "6", "--speed", "5", "--entities", "3"]


class Demo:
    """One run of the command, its output in a file."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.output_file = folder / "output"
        # everything that it starts has this folder's name in its command line
        environment = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "120"}
        self.folder = folder
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, *SHORT, *options],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # as in a terminal: what a shell runs in the background ignores Ctrl-C, and so would its children
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def wait(self) -> int:
        return self.process.wait(580)

    def wait_until(self, text: str) -> None:
        eventually(lambda: text in self.output or self.process.poll() is not None, 300, text)
        assert text in self.output

    def broker_port(self) -> int:
        found = re.search(r"broker   127\.0\.0\.1:(\d+)", self.output)
        assert found, self.output
        return int(found[1])

    def left_over(self) -> list[str]:
        """Command lines of what it has started and still runs."""
        listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
        marks = (str(self.folder), f"127.0.0.1:{self.broker_port()}")
        return [line for line in listed.splitlines() if any(mark in line for mark in marks)]


def is_served(address: str) -> bool:
    """Whether the live page is there."""
    try:
        with urllib.request.urlopen(address, timeout=20) as page:
            return "Beliefstream: live" in page.read().decode()
    except OSError:
        return False


@pytest.fixture
def taken() -> Iterator[None]:
    """The ports 9092, 8080 and 8090 are in use, by us or by another."""
    with ExitStack() as stack:
        for port in (9092, 8080, 8090):
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                listener.bind(("127.0.0.1", port))
                listener.listen()
        yield


def test_a_run_ends_well_with_both_tables_and_leaves_nothing_with_the_ports_taken(
    tmp_path: Path, taken: None
) -> None:
    picture = tmp_path / "demo.png"
    demo = Demo(tmp_path, "--picture", str(picture))
    assert demo.wait() == 0, demo.output
    assert "(port 9092 is taken)" in demo.output
    assert "(port 8080 is taken)" in demo.output
    page = re.search(r"page     (http://\S+/) \(port 8090 is taken\)", demo.output)
    assert page, demo.output
    assert not is_served(page[1])
    for text in ("mower, real ranges", "fleet, simulated sensors", "drones in space, ranges and directions"):
        assert text in demo.output
    assert demo.output.count("10 000 particles") >= 2  # in a table, or among those that have not finished
    verdict = ("Best of all", "Not best")
    assert all(text in demo.output for text in verdict) or "Not finished: " in demo.output
    for reason in ("not_json 1", "unknown_sensor 1", "not_finite 1", "wrong_length 1"):
        assert reason in demo.output
    assert "stated: north or south gate" in demo.output
    assert demo.left_over() == []
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / os.path.basename(re.findall(r"log (\S+)/worker.log", demo.output)[0])).is_dir()


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--no-page")
    demo.wait_until("sending")
    assert demo.left_over() != []
    assert "page " not in demo.output
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.wait() != 0
    assert "Traceback" not in demo.output
    assert demo.left_over() == []


def test_kept_up_it_answers_until_it_is_told_to_stop(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--keep")
    assert demo.wait() == 0, demo.output
    address = re.findall(r"worker (http://\S+) \(", demo.output)[-1]
    with urllib.request.urlopen(f"{address}/readyz", timeout=20) as page:
        assert page.status == 200
    seen = re.search(r"see:   (http://\S+/)", demo.output)
    assert seen, demo.output
    assert is_served(seen[1])
    assert f"beliefstream posteriors --brokers 127.0.0.1:{demo.broker_port()}" in demo.output
    os.kill(int(re.findall(r"kill (\d+)", demo.output)[0]), signal.SIGTERM)
    eventually(lambda: not demo.left_over(), 60, "everything is gone")
    assert not is_served(seen[1])


def test_what_cannot_work_is_told_before_anything_starts(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--picture", str(tmp_path / "nowhere" / "demo.png"))
    assert demo.wait() == 1
    assert demo.output.strip() == f"beliefstream: no such directory: {tmp_path / 'nowhere'}"


def test_a_worker_that_cannot_start_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(tmp_path / "none.safetensors"))
    demo = Demo(tmp_path)
    assert demo.wait() == 1
    assert "none.safetensors" in demo.output
    last = demo.output.strip().splitlines()[-1]
    assert last.startswith("beliefstream: the worker has ended; its log is ")
    assert demo.left_over() == []
