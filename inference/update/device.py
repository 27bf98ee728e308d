"""Choice of the device that runs the network."""

from __future__ import annotations

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA if available, else the CPU.

    Raises ValueError for an unknown name, RuntimeError if CUDA is requested but missing.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: must be auto, cpu or cuda, got {name!r}")
    if name == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if name == "cuda":
        raise RuntimeError("device: cuda asked for, but torch finds no CUDA device here; use auto or cpu")
    return torch.device("cpu")
