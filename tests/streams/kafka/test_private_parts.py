"""Few files touch private parts of other packages; each says the version and when it is fixed upstream."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from beliefstream import inference, streams

FOLDER = Path(streams.__file__).parent
# names of files, wherever they stand
TOUCHING = {
    "aiokafka_clients": "aiokafka",
    "connections": "Faust",
    "consumer": "Faust",
    "delivery": "Faust",
    "hooks": "Faust",
    "recovery": "Faust",
    "watermarks": "Faust",
}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Private functions, and private attributes and class variables, that a file defines."""
    functions = {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    stored = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    stored |= {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    return functions, stored


def foreign(tree: ast.AST, functions: set[str]) -> Iterator[str]:
    """Accesses to private names that are not of our own classes; `functions` are defined somewhere in ours."""
    own_functions, stored = own_names(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not private(node.attr) or node.attr in functions:
            continue
        base = ast.unparse(node.value)
        if base == "os" or (base.isidentifier() and node.attr in stored | own_functions):
            continue
        yield f"{base}.{node.attr}"


@pytest.fixture(scope="module")
def mathematics() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in Path(inference.__file__).parent.rglob("*.py")]


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in sorted(FOLDER.rglob("*.py"))}


def test_other_files_touch_no_private_part_of_another_package(
    trees: dict[Path, ast.Module], mathematics: list[ast.Module]
) -> None:
    functions = {name for tree in (*trees.values(), *mathematics) for name in own_names(tree)[0]}
    ours = functions - {
        name for path, tree in trees.items() if path.stem in TOUCHING for name in own_names(tree)[0]
    }
    found = {path.stem: {*foreign(tree, ours)} for path, tree in trees.items()}
    assert {stem for stem, touched in found.items() if touched} <= TOUCHING.keys()


def test_a_file_that_does_says_the_version_and_when_it_is_fixed_upstream(
    trees: dict[Path, ast.Module],
) -> None:
    for path, tree in trees.items():
        if path.stem in TOUCHING:
            said = " ".join((ast.get_docstring(tree) or "").split())
            assert re.search(rf"{TOUCHING[path.stem]} \(?\d+\.\d+", said), path.name
            assert "Fixed upstream when" in said, path.name
