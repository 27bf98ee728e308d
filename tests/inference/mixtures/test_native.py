"""Compiled code is kept for the next process, but never beyond a change of what it comes from."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba.core import event
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from beliefstream.inference import native_code
from beliefstream.inference.mixtures import native, native_cache
from beliefstream.inference.mixtures.native import inlined, inner

ROOT = native_cache.ROOT.resolve()


@inner
def constant() -> int:
    return 7


def caller(number: int) -> int:
    return number + constant()


def compiled_from_cache(monkeypatch: pytest.MonkeyPatch, digest: str) -> bool:
    """Compile the function as a new process does whose sources have that digest; whether the cache had it."""
    monkeypatch.setattr(native_cache, "sources_digest", lambda _: digest)
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


@pytest.mark.parametrize("module", native_code.MODULES, ids=lambda module: str(module.__name__))
def test_the_cache_looks_at_the_file_of_every_function_that_a_module_calls(module: ModuleType) -> None:
    own = Path(str(module.__file__)).resolve()
    reached = {
        file
        for function in vars(module).values()
        if isinstance(function, Dispatcher) and function.py_func.__module__ == module.__name__
        for file in files_below(function, set())
    }
    assert reached
    assert reached <= native_cache.imported_by(own, ROOT)


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


def test_parts_have_no_code_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    for _ in range(2):  # compiled, and from the cache
        compiled = native.native(filled)
        np.testing.assert_array_equal(compiled(4), [1.0, 2.0, 5.0, 10.0])
    assert compiled.stats.cache_hits  # type: ignore[attr-defined]


def test_a_part_does_not_use_objects_of_python() -> None:
    @inner
    def shown(value: float) -> None:
        print(value, "is shown")

    def shows() -> None:
        shown(1.0)

    with pytest.raises(NotImplementedError, match="must not use Python objects"):
        native.native(shows)()


def test_garbage_is_collected_as_before_once_code_is_compiled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    before, passes = gc.get_threshold(), Thresholds()
    event.register("numba:run_pass", passes)
    try:
        with native.compilation_watched() as functions:
            assert native.native(caller)(1) == 8
            assert functions() >= 1
    finally:
        event.unregister("numba:run_pass", passes)
    assert passes.seen == {native.SELDOM}
    assert gc.get_threshold() == before


class Thresholds(event.Listener):  # type: ignore[misc]
    """Of the garbage collector, at each pass of Numba."""

    def __init__(self) -> None:
        self.seen = set[int]()

    def on_start(self, _: event.Event) -> None:
        self.seen.add(gc.get_threshold()[0])

    def on_end(self, _: event.Event) -> None:
        pass
