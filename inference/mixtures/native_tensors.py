"""Which tensors native code takes."""

from __future__ import annotations

import torch
from torch import Tensor


def is_native(*tensors: Tensor, single: bool = False) -> bool:
    """Whether all are in double precision on the CPU, or in `single` precision too, without gradients.

    PyTorch's operators must do the rest. Native code is also no part of a program that PyTorch compiles.
    """
    if torch.compiler.is_compiling():
        return False
    return all(
        tensor.is_cpu
        and not tensor.requires_grad
        and (tensor.dtype == torch.float64 or (single and tensor.dtype == torch.float32))
        for tensor in tensors
    )
