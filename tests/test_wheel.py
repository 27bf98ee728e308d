"""The base install, as a device or a consumer of posteriors has it: no torch, no Faust."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CLIENT = """
import importlib.util
from schemas import Mixture, Observation, Posterior, RangeSensor
from streams.client import ObservationProducer, PosteriorConsumer, PriorPublisher, Registry
for absent in ("torch", "faust", "aiokafka", "typer", "prometheus_client"):
    assert importlib.util.find_spec(absent) is None, absent
print(Mixture.gaussian([0.0], standard_deviations=[1.0]).components, "component")
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and what it requires, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment" / "bin" / "python"
    wheel = next(folder.glob("*.whl"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, capture_output=True)
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, cwd=python.parent)


def test_the_clients_work_in_a_bare_environment(bare: Path) -> None:
    result = run(bare, "-c", CLIENT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "1 component"


def test_the_command_says_in_one_line_what_is_missing(bare: Path) -> None:
    result = run(bare, "-m", "streams.cli", "worker")
    assert result.returncode == 1
    assert "pip install 'beliefstream[worker]'" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_wheel_carries_weights_and_their_card(bare: Path) -> None:
    folder = "pathlib.Path(inference.__path__[0], 'weights')"  # importing it would need torch
    script = f"import inference, pathlib; print([p.suffix for p in {folder}.iterdir()])"
    result = run(bare, "-c", script)
    assert ".safetensors" in result.stdout
    assert ".md" in result.stdout
