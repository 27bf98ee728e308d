"""Compiled code is kept for the next process, but never beyond a change of what it comes from."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from beliefstream.inference.mixtures import native, native_forms, native_sources
from beliefstream.inference.mixtures.native import inlined, inner

ROOT = native_sources.ROOT.resolve()


@inner
def constant() -> int:
    return 7


def caller(number: int) -> int:
    return number + constant()


def compiled_from_cache(monkeypatch: pytest.MonkeyPatch, digest: str) -> bool:
    """Compile the function as a new process does whose sources have that digest; whether the cache had it."""
    monkeypatch.setattr(native, "sources_digest", lambda _: digest)
    compiled = native.native(caller)
    assert compiled(1) == 8
    return bool(compiled.stats.cache_hits)  # type: ignore[attr-defined]


def test_code_is_taken_from_the_cache_only_if_no_source_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    assert not compiled_from_cache(monkeypatch, "before")
    assert compiled_from_cache(monkeypatch, "before")
    assert not compiled_from_cache(monkeypatch, "after")
    assert compiled_from_cache(monkeypatch, "after")


def files_below(function: Any, seen: set[Any]) -> Iterator[Path]:
    """The files of all compiled functions that a compiled function reaches, itself one of them."""
    if function not in seen:
        seen.add(function)
        code = function.py_func.__code__
        yield Path(code.co_filename).resolve()
        for name in code.co_names:
            called = function.py_func.__globals__.get(name)
            for other in (called, *vars(called).values()) if hasattr(called, "__spec__") else (called,):
                if isinstance(other, Dispatcher):
                    yield from files_below(other, seen)


@pytest.mark.parametrize("name", native_forms.FORMS)
def test_the_cache_looks_at_the_file_of_every_function_that_a_form_calls(name: str) -> None:
    module = importlib.import_module(f"beliefstream.inference.{name}")
    own = Path(str(module.__file__)).resolve()
    reached = {
        file
        for function in vars(module).values()
        if isinstance(function, Dispatcher) and function.py_func.__module__ == module.__name__
        for file in files_below(function, set())
    }
    assert reached
    assert reached <= native_sources.imported_by(own, ROOT)


@inner
def squared(value: float) -> float:
    return value * value


@inlined
def both(value: float) -> float:
    return squared(value) + squared(1.0)


@inner
def new(size: int) -> NDArray[np.float64]:
    found = np.empty(size)
    for i in range(size):
        found[i] = both(float(i))
    return found


def filled(size: int) -> NDArray[np.float64]:
    return new(size)


@pytest.mark.parametrize("options", [native._of_parts, {}])
def test_parts_compute_the_same_without_code_of_their_own(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(native, "_of_parts", options)
    monkeypatch.setitem(globals(), "squared", inner(squared.py_func))  # type: ignore[attr-defined]
    monkeypatch.setitem(globals(), "both", inlined(both.py_func))  # type: ignore[attr-defined]
    monkeypatch.setitem(globals(), "new", inner(new.py_func))  # type: ignore[attr-defined]
    for _ in range(2):  # compiled, and from the cache
        compiled = native.native(filled)
        np.testing.assert_array_equal(compiled(4), [1.0, 2.0, 5.0, 10.0])
    assert compiled.stats.cache_hits  # type: ignore[attr-defined]


def test_another_numba_compiles_parts_as_all_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "beliefstream.inference.mixtures.native_compiler"
    monkeypatch.setattr("numba.__version__", "0.61.2")
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=r"numba 0\.61\.2: parts are compiled as all functions"):
        importlib.import_module(name)


@pytest.mark.skipif(not native._of_parts, reason="another Numba than those tried")
def test_a_part_does_not_use_objects_of_python() -> None:
    @inner
    def shown(value: float) -> None:
        print(value, "is shown")

    def shows() -> None:
        shown(1.0)

    with pytest.raises(NotImplementedError, match="must not use Python objects"):
        native.native(shows)()


def test_garbage_is_collected_as_before_once_forms_are_there() -> None:
    before = gc.get_threshold()
    native_forms.prepare()
    assert gc.get_threshold() == before
