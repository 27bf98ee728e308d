"""Which tensors native forms take, and whether Numba is there to compile them."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor

FORMS = ("native_linear_algebra", "native_density", "native_reduction", "native_maximisation")


def native_form(name: str, *tensors: Tensor) -> ModuleType | None:
    """A module of `inference.mixtures` that Numba compiles, or None where PyTorch's operators must do.

    It takes tensors in double precision on the CPU, without gradients, and is no part of a compiled program.
    """
    if torch.compiler.is_compiling():
        return None
    for tensor in tensors:
        if tensor.dtype != torch.float64 or tensor.device.type != "cpu" or tensor.requires_grad:
            return None
    return _module(name)


def prepare() -> None:
    """Compile the native forms, or load them from Numba's cache, before the first batch needs them.

    The first time on a machine this takes some seconds, later half a second. Without Numba it does nothing.
    """
    for name in FORMS:
        if module := _module(name):
            module.prepare()


@functools.cache
def _module(name: str) -> ModuleType | None:
    try:  # here, because the import of Numba takes a fifth of a second or more
        return importlib.import_module(f"beliefstream.inference.mixtures.{name}")
    except ImportError:
        return None
