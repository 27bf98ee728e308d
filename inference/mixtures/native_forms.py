"""Imports of native modules by name, for callers that do not import them yet."""

from __future__ import annotations

import importlib
from types import ModuleType

from torch import Tensor

from beliefstream.inference.mixtures.native_tensors import is_native


def native_form(name: str, *tensors: Tensor, single: bool = False) -> ModuleType | None:
    """A native module, or None where `is_native` says that PyTorch's operators must do."""
    return _module(name) if is_native(*tensors, single=single) else None


def _module(name: str) -> ModuleType | None:
    return importlib.import_module(f"beliefstream.inference.{name}")
