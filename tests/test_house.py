"""The house: one installed package, few rooms, and a root that gives what devices and consumers need."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import beliefstream

ROOT = Path(__file__).parent.parent
OTHERS = ("schemas", "inference", "streams", "research")
USER = """
from beliefstream import Mixture, ObservationProducer, PosteriorConsumer, PriorPublisher, RangeSensor, Registry
print(Mixture.gaussian([0.0], standard_deviations=[1.0]).components, RangeSensor.__name__)
"""
LIGHT = """
import sys, beliefstream
beliefstream.RangeSensor, beliefstream.ObservationProducer
print(sorted({"torch", "faust", "aiokafka"} & sys.modules.keys()))
"""


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_modules_of_the_user_with_our_folders_names_do_no_harm(tmp_path: Path) -> None:
    for name in OTHERS:
        (tmp_path / f"{name}.py").touch()
    (tmp_path / "user.py").write_text(USER)
    assert run(tmp_path, "user.py") == "1 RangeSensor"


def test_clients_need_neither_torch_nor_faust(tmp_path: Path) -> None:
    assert run(tmp_path, "-c", LIGHT) == "[]"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    assert "worker" in run(tmp_path, "-m", "beliefstream", "--help")


@pytest.mark.parametrize("name", beliefstream.__all__)
def test_every_name_of_the_root_is_there(name: str) -> None:
    assert getattr(beliefstream, name) is not None
    assert name in dir(beliefstream)


def test_type_checkers_see_every_name_of_the_root() -> None:
    stub = Path(str(beliefstream.__file__)).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    seen = [alias for node in imports for alias in node.names]
    assert all(alias.asname == alias.name for alias in seen)  # otherwise a checker takes it for private
    assert {alias.name for alias in seen} == set(beliefstream.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="No beliefstream attribute Kalman"):
        beliefstream.Kalman  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(("folder", "most"), [("streams", 15), ("inference", 13)])
def test_a_folder_has_few_entries(folder: str, most: int) -> None:
    entries = [path.name for path in (ROOT / folder).iterdir() if path.name != "__pycache__"]
    assert len(entries) <= most, sorted(entries)


def test_no_file_imports_itself_through_others() -> None:
    graph = grimp.build_graph("beliefstream", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the files


def test_every_room_says_what_lives_there() -> None:
    rooms = [path.parent for name in OTHERS for path in (ROOT / name).rglob("__init__.py")]
    silent = [room for room in rooms if not ast.get_docstring(ast.parse((room / "__init__.py").read_text()))]
    assert silent == []
