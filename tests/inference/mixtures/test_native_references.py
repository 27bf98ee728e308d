"""Parts of native code that count references to arrays, and parts that do not, pass no arrays to each other.

Where one returned an array to the other, it would be freed too early, or never.
"""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from beliefstream import inference
from beliefstream.inference.mixtures.native import borrowing, inlined, inner, native

Array = NDArray[np.float64]


def functions() -> list[Any]:
    """All compiled functions of `inference`."""
    modules = pkgutil.walk_packages(inference.__path__, inference.__name__ + ".")
    found = [vars(importlib.import_module(module.name)).values() for module in modules]
    return list(
        {id(each): each for values in found for each in values if isinstance(each, Dispatcher)}.values()
    )


def counts(function: Any) -> bool:
    counted: bool = function.targetoptions["_nrt"]
    return counted


def is_inlined(function: Any) -> bool:
    return bool(function.targetoptions.get("inline") == "always")


def called_by(function: Any) -> Iterator[Any]:
    """The compiled functions that it calls, and that those it contains call."""
    for name in function.py_func.__code__.co_names:
        called = function.py_func.__globals__.get(name)
        if isinstance(called, Dispatcher):
            if is_inlined(called):
                yield from called_by(called)
            else:
                yield called


def has_array(annotation: Any) -> bool:
    annotation = getattr(annotation, "__value__", annotation)
    if typing.get_origin(annotation) is tuple:
        return any(has_array(part) for part in typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return any(map(has_array, typing.get_type_hints(annotation).values()))
    return annotation not in (int, float, bool, type(None), np.int64, np.float64, np.bool_, ...)


def misplaced(called: list[Any]) -> list[str]:
    """The calls that return an array from a function that counts to one that does not, or the other way round."""
    return [
        f"{caller.py_func.__module__}.{caller.__name__} calls {other.__name__}"
        for caller in called
        if not is_inlined(caller)
        for other in called_by(caller)
        if counts(other) != counts(caller) and has_array(typing.get_type_hints(other.py_func)["return"])
    ]


def test_no_array_is_returned_between_functions_that_count_and_others() -> None:
    found = functions()
    assert {counts(each) for each in found if not is_inlined(each)} == {True, False}
    assert misplaced(found) == []


@inner
def first(values: Array) -> Array:
    return values[:1]


@inlined
def first_inlined(values: Array) -> Array:
    return first(values)


@borrowing
def first_value(values: Array) -> float:
    return float(first_inlined(values)[0])


def test_an_array_that_is_returned_between_them_is_found() -> None:
    assert misplaced([first, first_inlined, first_value]) == [f"{__name__}.first_value calls first"]
    assert misplaced([first, first_inlined]) == []


@inner
def itself(values: Array) -> Array:
    return values


@borrowing
def size(values: Array) -> int:
    return len(itself(values))


def size_of(values: Array) -> int:
    return size(values)


def test_a_part_counts_references_whoever_calls_it_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Numba would compile it without, as its first caller is, and use that for callers which count too."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    part: Any = itself
    assert native(size_of)(np.zeros(3)) == 3
    (compiled,) = part.overloads.values()
    assert compiled.target_context.enable_nrt
