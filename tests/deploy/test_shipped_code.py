"""Native code compiled in one folder serves a worker of another, where nothing can be written: as in the image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import Request

import pytest

from beliefstream.inference.mixtures import native
from beliefstream.streams.client import ObservationProducer, PosteriorConsumer
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, GuardedProcess, free_port
from tests.conftest import eventually, unique_names
from tests.deploy.test_image import define
from tests.http_answers import ask_if_there
from tests.streams.cli.conftest import environment

pytestmark = pytest.mark.programs
PACKAGE = Path(__file__).parents[2] / "src" / "beliefstream"
PATIENCE = 60.0  # seconds
COMPILE = ("-m", "beliefstream.inference.native_code")
PREDICTED = "from beliefstream.inference.likelihood import predicted_observations as n; n.prepare()"
COUNT = "import beliefstream as b; from beliefstream.inference import native_code as n; print(b.__file__, n.prepare())"
# root could write everywhere
UNPRIVILEGED = ("setpriv", "--inh-caps=-all", "--bounding-set=-all") if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a copy of the package and of its compiled code, read-only."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    subprocess.run([sys.executable, *COMPILE], check=True, capture_output=True, env=own)
    folder = tmp_path_factory.mktemp("shipped")
    shutil.copytree(PACKAGE, folder / "beliefstream", ignore=shutil.ignore_patterns("*.pyc"))
    set_writable(folder, False)
    yield folder
    set_writable(folder, True)


def set_writable(folder: Path, writable: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200 if writable else path.stat().st_mode & ~0o222)


def variables(shipped: Path, home: Path) -> dict[str, str]:
    """Of a process that imports the copy, and may write below `home` alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    return kept | {"PYTHONPATH": str(shipped), "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


def compiled_below(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*.nbc")]


def run(arguments: tuple[str, ...], variables: Mapping[str, str]) -> str:
    command = [*UNPRIVILEGED, sys.executable, *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=variables["HOME"])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_worker_compiles_nothing_where_its_code_is_shipped(shipped: Path, tmp_path: Path) -> None:
    names, port, log = unique_names(), free_port(), tmp_path / "worker.log"
    with EmbeddedBroker() as broker:
        servers = broker.bootstrap_servers
        topics.create(servers, names.topics, partitions=3)
        define(servers, names.topics)
        own = variables(shipped, tmp_path) | environment(servers, names)
        own |= {"BELIEFSTREAM_WEB_ADDRESS": f"127.0.0.1:{port}", "BELIEFSTREAM_DATA_DIRECTORY": str(tmp_path)}
        command = [*UNPRIVILEGED, sys.executable, "-m", "beliefstream.streams.cli", "worker"]
        worker = GuardedProcess(command, 10.0, log.open("ab"), own)
        try:
            ready = Request(f"http://127.0.0.1:{port}/readyz")
            eventually(lambda: ask_if_there(ready).status == 200, PATIENCE, "the worker is ready")
            with ObservationProducer(servers, names.topics.observations) as producer:
                for number in range(20):
                    producer.send(f"mower-{number % 3}", "gps", [3.0, 4.0], time=time.time())
            with PosteriorConsumer(servers, names.topics.posteriors, from_beginning=True) as consumer:
                eventually(lambda: consumer.poll(1.0), PATIENCE, "a posterior")
        finally:
            worker.stop(10.0)
    assert "native code" not in log.read_text()
    assert compiled_below(tmp_path) == []


def test_the_code_of_another_state_of_the_sources_is_not_used(shipped: Path, tmp_path: Path) -> None:
    source = shipped / "beliefstream/inference/likelihood/predicted_observations.py"
    before = source.read_text()
    set_writable(source, True)
    source.write_text(f"{before}# changed\n")
    try:
        run(("-c", PREDICTED), variables(shipped, tmp_path))
    finally:
        source.write_text(before)
        set_writable(source, False)
    assert [name for name in compiled_below(tmp_path) if "predicted_observations" in name]


@pytest.mark.skipif(not native.IS_PORTABLE, reason="not an x86-64-v3: code is for this processor only")
def test_the_code_is_for_every_processor_of_the_kind(shipped: Path, tmp_path: Path) -> None:
    """As LLVM would name another processor, which Numba would take for a part of the key otherwise."""
    other = variables(shipped, tmp_path)
    script = f"from llvmlite import binding; binding.get_host_cpu_name = lambda: 'skylake-avx512'; {COUNT}"
    assert run(("-c", script), other) == f"{shipped}/beliefstream/__init__.py 0"
    run(("-c", PREDICTED), other | {"NUMBA_CPU_NAME": "generic"})
    assert [name for name in compiled_below(tmp_path) if "predicted_observations" in name]
