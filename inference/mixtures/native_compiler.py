"""Compilation of parts: functions that become machine code only in the native functions that call them.

Numba optimises every function with all that it calls, and emits machine code of all of it. So it does that to a small
function of algebra again for each one above it, some ten times, and takes two thirds longer for the whole. Here a part
only becomes intermediate code, with small functions in it put into their callers.

All of it is private to Numba 0.68. Without it everything takes twice as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

ENVIRONMENT = "_ZN08NumbaEnv"  # start of the name of a function's pointer to its Python objects


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
