"""The network on its device; all else of an update is computed by the processor, in float64.

A batch that does not fit into the device's memory is halved until it does. If fewer than `FEWEST` entities do not fit
either, the CPU computes them. The size that fitted is then the limit. Every `RETRY_SECONDS` it tries twice as many, so
a temporary shortage soon passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.network.transformer import DistributionTransformer, Tokens

FEWEST = 8  # entities; if these do not fit, the device is not used
RETRY_SECONDS = 30.0  # as docs/operating.md says

MemoryFallback = Literal["halved", "cpu"]


class OutOfMemory(MemoryError):
    """Raised if not even a few entities fit into the CPU's memory; the observations are not the cause."""


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA if available, else the CPU.

    Raises ValueError for an unknown name, RuntimeError if CUDA is requested but missing.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: must be auto, cpu or cuda, got {name!r}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise RuntimeError("device: cuda asked for, but torch finds no CUDA device here; use auto or cpu")
    return torch.device("cuda")


@dataclass
class DeviceCapacity:
    """Estimate of how many entities the device has room for, shared by all networks on it.

    Args:
        on_fallback: called with each fallback taken. clock: monotonic, in seconds.

    Attributes:
        most: None for any number, 0 if the device has no room.
    """

    on_fallback: Callable[[MemoryFallback], None] = lambda fallback: None
    clock: Callable[[], float] = time.monotonic
    most: int | None = None
    retry_at: float = 0.0
    failed: int = 0  # the largest number that did not fit

    def allowed(self, batch: int) -> int:
        """How many of `batch` to try at once; 0 to skip the device."""
        if self.most is not None and self.clock() >= self.retry_at:
            self.most = max(FEWEST, 2 * self.most)
            self.retry_at = self.clock() + RETRY_SECONDS
            if self.most >= self.failed:
                self.most, self.failed = None, 0
        return batch if self.most is None else min(batch, self.most)

    def exceeded(self, tried: int) -> None:
        """Record that `tried` entities did not fit."""
        self.most = tried // 2 if tried >= 2 * FEWEST else 0
        self.failed = max(self.failed, tried)
        self.retry_at = self.clock() + RETRY_SECONDS
        self.on_fallback("halved" if self.most else "cpu")


class DeviceNetwork:
    """A network on a device, with results in float64 on the CPU.

    Args:
        network: copied to `device` and `dtype` if it is elsewhere.
        capacity: how many entities the device has room for.
        spare: the network that the CPU uses instead; `network` by default.
    """

    def __init__(
        self,
        network: DistributionTransformer,
        device: torch.device,
        dtype: torch.dtype,
        capacity: DeviceCapacity | None = None,
        spare: DistributionTransformer | None = None,
    ) -> None:
        self.device, self.dtype, self.given = device, dtype, spare or network
        if any(part.dtype != dtype or part.device != device for part in network.parameters()):
            network = deepcopy(network).to(device, dtype)  # leave the caller's network as it is
        self.network, self.capacity = network.eval(), capacity or DeviceCapacity()

    @cached_property
    def double(self) -> DeviceNetwork:
        """The same network in float64."""
        if self.dtype == torch.float64:
            return self
        return DeviceNetwork(self.network, self.device, torch.float64, self.capacity, self.given)

    def answer(self, tokens: Tokens, observations: Observations) -> tuple[GaussianMixture, Tensor]:
        """Posterior components of each problem, and which of them the CPU computed for lack of memory, ``(B,)``."""
        batch, parts, spared = observations.batch, list[GaussianMixture](), torch.zeros(0, dtype=torch.bool)
        while len(spared) < batch:
            start = len(spared)
            count = self.capacity.allowed(batch - start)
            index = slice(start, start + (count or batch - start))
            some = Tokens(*(part[index] for part in tokens)), observations.rows_of(index)
            answered = self._tried(*some) if count else self._by_cpu(*some)
            if answered is not None:
                parts.append(answered)
                spared = torch.cat([spared, torch.full((answered.batch,), count == 0)])
        return (parts[0] if len(parts) == 1 else concatenate(parts)), spared

    def _tried(self, tokens: Tokens, observations: Observations) -> GaussianMixture | None:
        """The answer of the device, or None if it has no room for so many."""
        try:
            return _run(self.network, self.device, self.dtype, tokens, observations)
        except RuntimeError as error:
            if not is_memory(error):
                raise
        # outside the handler, the exception and the tensors in its frames are freed
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.capacity.exceeded(observations.batch)
        return None

    def _by_cpu(self, tokens: Tokens, observations: Observations) -> GaussianMixture:
        try:
            return _run(self._spare, torch.device("cpu"), self.dtype, tokens, observations)
        except RuntimeError as error:
            if not is_memory(error):
                raise
            raise OutOfMemory(
                f"update: no memory for {observations.batch} entities, on the CPU either"
            ) from error

    @cached_property
    def _spare(self) -> DistributionTransformer:
        return deepcopy(self.given).to("cpu", self.dtype).eval()


def _run(
    network: DistributionTransformer,
    device: torch.device,
    dtype: torch.dtype,
    tokens: Tokens,
    observations: Observations,
) -> GaussianMixture:
    moved = (part.to(device, dtype if part.is_floating_point() else None) for part in tokens)
    estimate = network(Tokens(*moved), observations.to(dtype=dtype, device=device))
    log_weights, means, factors = (part.double().cpu() for part in estimate)
    return GaussianMixture(log_weights, means, factors @ factors.mT)


def is_memory(error: RuntimeError) -> bool:
    """Whether an error means out of memory; the CPU's allocators raise no class of their own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
