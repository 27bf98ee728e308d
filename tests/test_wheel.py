"""Wheel and sdist, and the base install, as a device or a consumer of posteriors has it: no torch, no Faust."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from beliefstream.streams.cli.setup import EXTRAS

pytestmark = pytest.mark.programs
ROOT = Path(__file__).parent.parent
NOBODY = "127.0.0.1:1"  # where no broker answers
CLIENT = """
import importlib.util
from beliefstream.schemas import Mixture, Observation, Posterior, RangeSensor
from beliefstream.streams.client import ObservationProducer, PosteriorConsumer, PriorPublisher, Registry
for absent in ("torch", "faust", "aiokafka", "orjson", "uvloop"):
    assert importlib.util.find_spec(absent) is None, absent
print(Mixture.gaussian([0.0], standard_deviations=[1.0]).components, "component")
"""
BEACON = '{"sensor": "b", "kind": "range", "position": [0, 5], "standard_deviation": 0.3}'
# commands that need a broker: with none, that is what they say
TALKING = (
    ("observe", "mower", "beacon-1", "12.5"),
    ("sensors", "set", BEACON),
    ("sensors", "list"),
    ("models", "list"),
    ("prior", "set", "mower", "--mean", "1", "--standard-deviation", "3"),
    ("posteriors",),
    ("topics", "check"),
    ("topics", "create"),
    ("dead-letters",),
    ("dead-letters", "--summary"),
    ("dead-letters", "--replay", "--yes"),
    ("entity", "reset", "mower"),
    ("watch", "--duration", "1"),
    ("simulate", "--entities", "2", "--duration", "1", "--speed", "0"),
)
HEAVY = (
    (("fuse", "log.jsonl"), "worker"),
    (("send", "log.parquet"), "files"),
    (("train",), "worker"),
    (("worker",), "worker"),
    (("gateway",), "gateway"),
    (("bridge", "mqtt", "log.jsonl"), "mqtt"),
    (("broker",), "broker"),
    (("demo",), "worker"),
    (("live",), "live"),
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel and the sdist that it is built from."""
    folder = tmp_path_factory.mktemp("distributions")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return sorted(folder.iterdir(), key=lambda path: path.suffix)


@pytest.fixture(scope="module")
def bare(distributions: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it requires, nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "environment")
    python = folder / "environment" / "bin" / "python"
    (wheel,) = (path for path in distributions if path.suffix == ".whl")
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, env=outside)
    (python.parent / "log.jsonl").write_text('{"entity": "a", "sensor": "gps", "time": 1, "value": 1}\n')
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "BELIEFSTREAM_BROKERS": NOBODY}
    return subprocess.run(
        [python, *arguments], capture_output=True, text=True, cwd=python.parent, env=environment
    )


def command(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command itself."""
    return run(python, str(python.parent / "beliefstream"), *arguments)


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def test_an_index_would_show_the_wheel_and_the_sdist(distributions: list[Path]) -> None:
    assert {path.suffix for path in distributions} == {".whl", ".gz"}
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)]
    result = subprocess.run(check, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_clients_work_in_a_bare_environment(bare: Path) -> None:
    result = run(bare, "-c", CLIENT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1 component"


def test_help_is_shown_for_every_command_in_a_bare_environment(bare: Path) -> None:
    shown = command(bare, "--help")
    assert shown.returncode == 0, shown.stderr
    for name in {arguments[0] for arguments in (*TALKING, *(arguments for arguments, _ in HEAVY))}:
        assert name in shown.stdout
        result = command(bare, name, "--help")
        assert result.returncode == 0, result.stderr


def test_commands_that_need_no_broker_run_in_a_bare_environment(bare: Path) -> None:
    assert command(bare, "contract", "made").returncode == 0
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert command(bare, "--version").stdout == f"beliefstream {declared}\n"
    settings = command(bare, "settings")
    assert settings.returncode == 0, settings.stderr
    assert "BELIEFSTREAM_BROKERS" in settings.stdout


def test_commands_that_talk_to_kafka_run_in_a_bare_environment(bare: Path) -> None:
    """All at once: each waits some seconds for a broker."""
    with ThreadPoolExecutor(len(TALKING)) as pool:
        for result in pool.map(lambda arguments: command(bare, *arguments), TALKING):
            assert_one_line(result, NOBODY)
            assert "pip install" not in result.stderr


def test_the_doctor_looks_at_what_it_can_in_a_bare_environment(bare: Path) -> None:
    result = command(bare, "doctor", "--url", "http://127.0.0.1:1")
    assert_one_line(result, "1 problem")  # no broker
    assert "extras: none" in result.stdout
    assert "pip install 'beliefstream[worker]'" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"), HEAVY, ids=lambda part: part if isinstance(part, str) else part[0]
)
def test_the_command_says_in_one_line_which_extra_is_missing(
    bare: Path, arguments: Sequence[str], extra: str
) -> None:
    assert_one_line(command(bare, *arguments), f"pip install 'beliefstream[{extra}]'")


def test_every_module_of_an_extra_is_known_to_the_command_line() -> None:
    """Of what users install; documents and development have no commands."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {"faust-streaming": "faust", "paho-mqtt": "paho"}
    modules |= {"foxglove-sdk": "foxglove", "mcap-ros2-support": "mcap_ros2"}
    for extra, known in EXTRAS.items():
        names = {re.split(r"[\[<>=~;, ]", each)[0] for each in declared[extra]} - {"beliefstream"}
        assert {modules.get(name, name.replace("-", "_")) for name in names} <= set(known)


def test_what_is_installed_is_one_package_with_every_file_of_its_folders(distributions: list[Path]) -> None:
    (wheel,) = (path for path in distributions if path.suffix == ".whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {Path(name) for name in archive.namelist()}
    installed = {name for name in names if not name.parts[0].endswith(".dist-info")}
    assert {name.parts[0] for name in installed} == {"beliefstream"}
    for folder in ("schemas", "inference", "streams"):
        files = {
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.parent.name != "__pycache__"
        }
        assert {"beliefstream" / path.relative_to(ROOT) for path in files} <= installed
