"""The lowest versions that pyproject.toml allows: everything imports with them, and works.

Takes some minutes and gigabytes: PyTorch of the package index brings CUDA. UV_TORCH_BACKEND=cpu in the environment
chooses the smaller one, where its index can be reached.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IMPORTS = """
import importlib, pkgutil, sys
for package in map(importlib.import_module, ("beliefstream", "research")):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith(("__main__", "echo_app")):  # these run on import
            importlib.import_module(found.name)
"""
# one of each kind: messages, the network and its check, the command line, a worker on the embedded broker
TESTS = (
    "tests/schemas",
    "tests/inference/update/test_updater_kinds.py",
    "tests/streams/cli/offline/test_fuse.py",
    "tests/streams/cli/definitions/test_topics.py",
    "tests/streams/worker/test_broker_away.py",
)


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the lowest versions of what all extras name."""
    folder = tmp_path_factory.mktemp("lowest")
    environment = folder / "environment"
    python = environment / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, str(environment)], check=True)
    install = [*uv, "pip", "install", "--python", str(python), "--resolution", "lowest-direct"]
    # a copy, so that no build folder comes to lie in the working tree
    tree = shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    subprocess.run([*install, f"{tree}[dev]"], check=True)
    return python


@pytest.mark.soak
@pytest.mark.timeout(3600)  # most of it is the download
def test_the_lowest_versions_that_are_allowed_work(lowest: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([lowest, "-c", IMPORTS], check=True, cwd=ROOT, env=environment)
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    subprocess.run([lowest, *arguments], check=True, cwd=ROOT, env=environment)
