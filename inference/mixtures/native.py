"""Compilation of loops over many small problems for the processor, with Numba.

PyTorch needs some microseconds for every operator, whatever its size. The reduction of a few mixtures takes thousands
of operators, but little arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from numba import njit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_compile: Callable[..., Any] = njit  # which has types in some versions only


def native(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function when it is first called; it runs without the interpreter's lock.

    Numba keeps the compiled code beside the source file, else in the user's cache directory; NUMBA_CACHE_DIR names
    another place.
    """
    options = {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Callable[Arguments, Result] = _compile(function, cache=True, **options)
    except RuntimeError:  # no such directory can be written: each process compiles for itself
        compiled = _compile(function, **options)
    return compiled


def inner(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function that only native ones call, as a part of them."""
    options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled: Callable[Arguments, Result] = _compile(function, **options)
    return compiled
