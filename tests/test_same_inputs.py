"""A run of the tests draws the same inputs each time, and `make search` draws others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.programs
PROPERTY = """
import numpy, torch
from hypothesis import given, settings, strategies as st

@settings(max_examples=200)
@given(st.floats(), st.text(), st.integers())
def test_drawn(number, text, whole):
    with open("drawn", "a") as file:
        print((number, text, whole), file=file)

def test_numbers():
    with open("drawn", "a") as file:
        print(torch.rand(3).tolist(), numpy.random.rand(3).tolist(), file=file)
"""
IMPORTER = """
import local_numbers, torch

def test_something_else():
    torch.rand(1)
"""
CONSTANTS = "\n".join(f"A{n} = {n}.0625 * {n}e5; B{n} = 'text {n}'" for n in range(1, 60))


def drawn(folder: Path, *arguments: str) -> str:
    """What the property drew, in a run of pytest of its own."""
    (folder / "drawn").unlink(missing_ok=True)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return (folder / "drawn").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with our conftest.py and two files of tests, one of which imports a module full of constants."""
    here = tmp_path_factory.mktemp("tests")
    shutil.copy(Path(__file__).parent / "conftest.py", here)
    (here / "test_property.py").write_text(PROPERTY)
    (here / "test_importer.py").write_text(IMPORTER)
    (here / "local_numbers.py").write_text(CONSTANTS)
    root = Path(__file__).parents[1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join((str(root / "src"), str(root))))
        patched.delenv("PYTEST_XDIST_WORKER", raising=False)
        yield here


@pytest.fixture(scope="module")
def alone(folder: Path) -> str:
    """What is drawn in a run of that test alone."""
    return drawn(folder, "test_property.py")


def test_inputs_are_the_same_whatever_ran_before(folder: Path, alone: str) -> None:
    assert len(alone.splitlines()) > 100
    assert drawn(folder, "test_importer.py", "test_property.py") == alone


def test_a_search_draws_others(folder: Path, alone: str) -> None:
    assert drawn(folder, "test_property.py", "--hypothesis-profile", "others") != alone
