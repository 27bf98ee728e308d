"""Where compiled code is kept, and for how long: until a source file changes that it comes from.

It is kept in NUMBA_CACHE_DIR if that is set, else beside the source file, else in the user's cache directory. What is
beside the sources already, as in an image, is used where nothing can be written there too.

**Numba's own cache misses changes in other files.** It looks at the file of a function alone, but compiled code
contains inner functions and constants of other files. After a change there it would run the old ones. So the stamp
contains all files that the function's own imports, directly or through others. It has no time and no folder, so that a
copy is as good. Fixed upstream when a function's stamp covers what it calls.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core import caching, config

ROOT, PACKAGE = Path(__file__).parents[1], "beliefstream.inference"
# a statement of a file; ast.parse would take a second of every start
_IMPORT = re.compile(r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|[^\n]*)|import ([^\n]*))", re.MULTILINE)
_LEFT_OUT = re.compile(r"#[^\n]*| as \w+|[()]")


@functools.cache
def sources_digest(file: Path) -> str:
    """As `digest`, once in a process."""
    return digest(file)


class _ReadOnly(caching.InTreeCacheLocator):  # type: ignore[misc]
    """Beside a source file where nothing can be written."""

    def ensure_cache_path(self) -> None:
        """Accept the folder as it is."""


class _Kept(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (*caching.CompileResultCacheImpl._locator_classes, _ReadOnly)


class _Index(caching.IndexDataCacheFile):  # type: ignore[misc]
    """The index of a function's compiled code; of sources whose classes are gone it is empty."""

    def _load_index(self) -> Any:
        try:
            return super()._load_index()
        except (ImportError, AttributeError):  # it holds argument types, which an update may have removed
            return {}


class NativeCache(caching.FunctionCache):  # type: ignore[misc]
    """The cache of a compiled function; private to Numba 0.68."""

    _impl_class = _Kept

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        own = Path(inspect.getfile(function))
        name, stamp = self._impl.filename_base, sources_digest(own)
        self._cache_file = _Index(self._cache_path, name, stamp)
        self._shipped = _Index(str(own.parent / "__pycache__"), name, stamp)

    def _load_overload(self, signature: Any, context: Any) -> Any:
        kept = super()._load_overload(signature, context)
        if kept is None and not config.CACHE_DIR:
            data = self._shipped.load(self._index_key(signature, context.codegen()))
            kept = None if data is None else self._impl.rebuild(context, data)
        return kept

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):  # no folder can be written: each process compiles for itself
            super().save_overload(signature, data)


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
            left.extend(file for name in _names(path.read_text()) for file in _files(name, root))
    return found


@functools.cache  # as one file is imported by many
def _names(source: str) -> frozenset[str]:
    """All names that a file imports, of modules or of what is in them."""
    found = set[str]()
    for module, members, modules in _IMPORT.findall(source):
        if module.startswith("."):
            raise ValueError("a relative import, which the cache of native code does not follow")
        names = filter(None, map(str.strip, _LEFT_OUT.sub("", members or modules).split(",")))
        found.update(f"{module}.{name}" if module else name for name in names)
    return frozenset(name for name in found if f"{name}.".startswith(f"{PACKAGE}."))


@functools.cache
def _files(name: str, root: Path) -> tuple[Path, ...]:
    """The module of a name and the packages above it, as importing it runs them all."""
    folder, found = root, list[Path]()
    for part in ["", *name.removeprefix(PACKAGE).split(".")[1:]]:
        folder = folder / part
        found += [path for path in (folder / "__init__.py", folder.with_suffix(".py")) if path.is_file()]
    return tuple(found)
