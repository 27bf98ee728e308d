"""Which tensors native forms take, and whether Numba is there to compile them."""

from __future__ import annotations

import functools
import gc
import importlib
from types import ModuleType

import torch
from torch import Tensor

FORMS = (
    "mixtures.native_linear_algebra",
    "mixtures.native_affine",
    "mixtures.native_density",
    "mixtures.native_reduction",
    "mixtures.native_maximisation",
    "likelihood.native_observations",
    "likelihood.native_likelihood",
    "likelihood.native_smoothing",
    "update.native_climb",
    "likelihood.native_surprise",
    "update.native_cells",
    "update.native_extension",
    "update.native_unseen",
    "update.native_importance",
    "update.native_scaling",
    "update.native_nearly_linear",
    "update.native_curved_quadrature",
    "update.plane.polar_answers",
    "update.plane.cartesian",
    "update.native_reduction_cost",
    "tracking.health.native_fits",
    "tracking.native_accumulated_error",
    "tracking.native_steps",
    "tracking.native_bent_steps",
)
SELDOM = 100_000  # new objects between collections of garbage, which take a tenth of Numba's time by default


def native_form(name: str, *tensors: Tensor, single: bool = False) -> ModuleType | None:
    """One of `FORMS`, or None where PyTorch's operators must do.

    It takes tensors in double precision on the CPU, or in `single` precision too, without gradients. It is no part of a
    compiled program.
    """
    if torch.compiler.is_compiling():
        return None
    for tensor in tensors:
        if tensor.dtype != torch.float64 and not (single and tensor.dtype == torch.float32):
            return None
        if not tensor.is_cpu or tensor.requires_grad:
            return None
    return _module(name)


def prepare() -> bool:
    """Compile the native forms, or load them from Numba's cache, before the first batch needs them.

    The first time on a machine this takes a minute or two of the processor, later a second. Returns whether all are
    there: False without Numba. `python -m beliefstream.inference.mixtures.native_forms` does it ahead, for instance in
    an image.
    """
    threshold = gc.get_threshold()
    gc.set_threshold(SELDOM, *threshold[1:])
    try:
        modules = [_module(name) for name in FORMS]
        for module in modules:
            if module is not None:
                module.prepare()
        return None not in modules
    finally:
        gc.set_threshold(*threshold)


@functools.cache
def _module(name: str) -> ModuleType | None:
    try:  # here, because the import of Numba takes a fifth of a second or more
        return importlib.import_module(f"beliefstream.inference.{name}")
    except ImportError:
        return None


if __name__ == "__main__":
    prepare()
