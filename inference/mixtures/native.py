"""Compilation of loops over many small problems for the processor, with Numba.

PyTorch needs some microseconds for every operator, whatever its size. The reduction of a few mixtures takes thousands
of operators, but little arithmetic.

**Numba's cache misses changes in other files.** It looks at the file of a function alone, but compiled code contains
inner functions and constants of other files. After a change there it would run the old ones. So the cache's stamp
contains all files that the function's own imports, directly or through others. Fixed upstream when a function's stamp
covers what it calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit

from beliefstream.inference.mixtures import native_sources

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_compile: Callable[..., Any] = njit  # which has types in some versions only
sources_digest = functools.cache(native_sources.digest)
_of_parts: dict[str, Any] = {}
try:
    from beliefstream.inference.mixtures.native_compiler import PartCompiler

    _of_parts["pipeline_class"] = PartCompiler
except ImportError:  # another Numba: parts are compiled as all functions, in more time
    pass


def native(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function when it is first called; it runs without the interpreter's lock.

    Numba keeps the compiled code beside the source file, else in the user's cache directory; NUMBA_CACHE_DIR names
    another place.
    """
    options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": True}
    try:
        compiled: Callable[Arguments, Result] = _stamped(_compile(function, cache=True, **options))
    # no such directory can be written, or this Numba has another cache: each process compiles for itself
    except (RuntimeError, AttributeError):
        compiled = _compile(function, **options)
    return compiled


def _stamped(compiled: Any) -> Any:
    """Let the cache of a function be valid for the present sources only."""
    cached = compiled._cache._cache_file  # of Numba 0.68; private
    own = Path(compiled.py_func.__code__.co_filename)
    cached._source_stamp = (cached._source_stamp, sources_digest(own))
    return compiled


def inner(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function that only native ones call, as a part of them."""
    # stated, because Numba would take it from the first caller, and keep the result for all of them
    return _as_part(function, _nrt=True)


def inlined(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `inner`, put into its caller before that is compiled.

    Numba compiles every inner function on its own too, with all that it calls. That takes seconds for a large one.
    """
    return _as_part(function, inline="always")


def borrowing(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `inner`, for a function that makes no array: it counts no references to those it is given.

    A count costs some nanoseconds for every array of every call, more than the arithmetic on small matrices. No array
    may be returned where one side counts and the other does not: it would be freed too early, or never.
    """
    return _as_part(function, _nrt=False)  # private, Numba 0.68


def fusing(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `borrowing`, for sums of many products: a product and a sum may be rounded once, which is faster.

    It is not for differences that must be exactly zero.
    """
    return _as_part(function, _nrt=False, fastmath={"contract"})


def adding(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """As `fusing`, for sums over many points, which may also be added up in another order: several at a time."""
    return _as_part(function, _nrt=False, fastmath={"contract", "reassoc"})


def _as_part(function: Callable[Arguments, Result], **options: Any) -> Callable[Arguments, Result]:
    whole = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled: Callable[Arguments, Result] = _compile(function, **whole, **_of_parts, **options)
    return compiled
