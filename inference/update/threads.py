"""Independent parts of a batch in threads: native code runs without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_threads(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """The results of all parts, in order, from as many threads as PyTorch's operators may use."""
    count = min(torch.get_num_threads(), len(parts))
    if count < 2:
        return [work(part) for part in parts]

    def alike(part: Part) -> Result:
        with torch.inference_mode(inference):  # each thread has its own mode
            return work(part)

    inference = torch.is_inference_mode_enabled()
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(alike, parts))
