"""Which source files the native code of a function comes from.

Numba's cache looks at the function's own file. Its code also contains functions and constants of modules which that
file imports, and which these import.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

ROOT, PACKAGE = Path(__file__).parents[1], "beliefstream.inference"


def digest(file: Path) -> str:
    """Digest of all that native code of a file can contain; of all files of `inference` if it is not one of them."""
    root, file = ROOT.resolve(), file.resolve()
    found = hashlib.sha256()
    for path in sorted(imported_by(file, root) if file.is_relative_to(root) else root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def imported_by(file: Path, root: Path) -> set[Path]:
    """The file, and those below `root` that it imports, or that these import, anywhere in them."""
    found, left = set[Path](), [file]
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left.extend(file for name in _names(path.read_bytes()) for file in _files(name, root))
    return found


@functools.cache  # as one file is imported by many
def _names(source: bytes) -> frozenset[str]:
    """All names that a file imports, of modules or of what is in them."""
    found = set[str]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError("a relative import, which the cache of native code does not follow")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(name for name in found if f"{name}.".startswith(f"{PACKAGE}."))


def _files(name: str, root: Path) -> Iterator[Path]:
    """The module of a name and the packages above it, as importing it runs them all."""
    folder = root
    for part in ["", *name.removeprefix(PACKAGE).split(".")[1:]]:
        folder = folder / part
        for path in (folder / "__init__.py", folder.with_suffix(".py")):
            if path.is_file():
                yield path
