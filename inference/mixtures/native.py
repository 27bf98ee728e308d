"""Compilation of loops over many small problems for the processor, with Numba.

PyTorch needs some microseconds for every operator, whatever its size. The reduction of a few mixtures takes thousands
of operators, but little arithmetic.

**Compiled code is for every x86-64-v3 processor** (Intel since 2013, AMD since 2015), not for this one only, so that an
image or a copied folder brings it. Where the processor is another, it is compiled for that one, at the first start.

**Parts become machine code only in the functions that call them.** Numba optimises every function with all that it
calls, and emits machine code of all of it. So it does that to a small function of algebra again for each one above it,
some ten times, and takes two thirds longer for the whole. Here a part only becomes intermediate code, with small
functions in it put into their callers. The classes for that are private to Numba 0.68; without them everything takes
twice as long to compile.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from llvmlite import binding
from numba import njit
from numba.core import config, event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.types.misc import unliteral

from beliefstream.inference.mixtures.native_cache import NativeCache

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_compile: Callable[..., Any] = njit  # its types leave out private options

PORTABLE = "x86-64-v3"
# of x86-64-v3, by LLVM's names: https://gitlab.com/x86-psABIs/x86-64-ABI, table 3.1
_FEATURES = "avx avx2 bmi bmi2 cx16 f16c fma lzcnt movbe popcnt sahf sse3 sse4.1 sse4.2 ssse3 xsave"
ENVIRONMENT = "_ZN08NumbaEnv"  # start of the name of a function's pointer to its Python objects
SELDOM = 100_000  # new objects between collections of garbage, which take a tenth of Numba's time by default


def _is_portable() -> bool:
    """Whether the processor is an x86-64-v3, and nobody has chosen another with NUMBA_CPU_NAME."""
    try:
        has = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know the processor
        return False
    return config.CPU_NAME is None and all(has.get(name, False) for name in _FEATURES.split())


IS_PORTABLE = _is_portable()
if IS_PORTABLE:  # before Numba compiles its first function, as it looks then
    config.CPU_NAME, config.CPU_FEATURES = PORTABLE, ""


def processor() -> str:
    """LLVM's name of the processor that code is compiled for."""
    return str(config.CPU_NAME or binding.get_host_cpu_name())


class _Compilations(event.Listener):  # type: ignore[misc]
    """Counts the functions that are compiled; garbage is seldom collected meanwhile."""

    def __init__(self) -> None:
        self.functions = 0
        self.watch: Callable[[int], None] | None = None
        self._before = list[tuple[int, int, int]]()  # thresholds; one for each function being compiled

    def on_start(self, _: event.Event) -> None:
        self._before.append(gc.get_threshold())
        gc.set_threshold(SELDOM, *self._before[-1][1:])

    def on_end(self, _: event.Event) -> None:
        gc.set_threshold(*self._before.pop())
        self.functions += 1
        if self.watch is not None:
            self.watch(self.functions)


_compilations = _Compilations()
event.register("numba:compile", _compilations)


@contextmanager
def compilation_watched(watch: Callable[[int], None] | None = None) -> Iterator[Callable[[], int]]:
    """Count the functions that are compiled inside: what it gives returns their number so far.

    `watch` is called with that number after each of them. Nothing is compiled where all comes from the cache.
    """
    before, outer = _compilations.functions, _compilations.watch
    if watch is not None:
        _compilations.watch = lambda functions: watch(functions - before)
    try:
        yield lambda: _compilations.functions - before
    finally:
        _compilations.watch = outer


class PartCodegen:
    """The code generator of a part, which has no machine code."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def set_env(self, _name: str, _environment: Any) -> None:
        """Set no pointer to the part's Python objects: `PartLibrary` makes sure that it uses none."""


class PartLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A part's intermediate code, which a native function links."""

    @property
    def codegen(self) -> PartCodegen:
        return PartCodegen(self._codegen)

    def get_pointer_to_function(self, _name: str) -> int:
        self._ensure_finalized()
        return 0  # as of a name that is not defined

    def add_llvm_module(self, ll_module: Any) -> None:
        """Add the code of a function; raises `NotImplementedError` if it uses Python objects, as `print` does."""
        code = str(ll_module)
        for variable in ll_module.global_variables:
            if variable.name.startswith(ENVIRONMENT) and code.count(variable.name) > 1:  # not only declared
                raise NotImplementedError(f"{self.name}: a part of native code must not use Python objects")
        super().add_llvm_module(ll_module)

    def _optimize_final_module(self) -> None:
        manager, builder = self._codegen._module_pass_manager(
            loop_vectorize=False, slp_vectorize=False, opt=0, cost="cheap"
        )
        manager.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class PartCompiler(Compiler):  # type: ignore[misc]
    """Numba's compiler with a library of the part's own."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        self.state.library = PartLibrary(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)


def native(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Compile a function when it is first called; it runs without the interpreter's lock.

    `native_cache` says where compiled code is kept, and how long.
    """
    # private, Numba 0.68: _nrt, and the cache below
    compiled: Any = _compile(function, nogil=True, error_model="numpy", no_cfunc_wrapper=True, _nrt=True)
    compiled._cache = NativeCache(function)
    result: Callable[Arguments, Result] = compiled
    return result


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
    compiled: Any = _compile(function, **whole, pipeline_class=PartCompiler, **options)
    call_template = compiled.get_call_template

    def without_literals(arguments: Any, keywords: Any) -> Any:
        """A call with the number 1 is as one with a variable: Numba would compile it separately."""
        named = {name: unliteral(kind) for name, kind in keywords.items()}
        return call_template(tuple(map(unliteral, arguments)), named)

    compiled.get_call_template = without_literals  # private, Numba 0.68
    result: Callable[Arguments, Result] = compiled
    return result
