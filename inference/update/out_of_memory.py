"""An updater for devices that may run out of memory: it tries fewer entities, then the CPU, then recovers.

A batch that does not fit is halved until it does. If fewer than `FEWEST` entities do not fit either, the CPU answers,
and marks its answers `fallback`. The size that fitted is then the limit. Every `RETRY_SECONDS` it tries twice as many,
so a temporary shortage soon passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.updater import Updater, UpdateSettings

FEWEST = 8  # entities; if these do not fit, the device is not used
RETRY_SECONDS = 30.0

MemoryFallback = Literal["halved", "cpu"]


class OutOfMemory(MemoryError):
    """Raised if not even a few entities fit into the CPU's memory; the observations are not the cause."""


@dataclass
class DeviceCapacity:
    """Estimate of how many entities the device has room for, shared by all updaters on it.

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


class SparingUpdater(Updater):
    """`Updater` that also answers when the device runs out of memory.

    Args:
        spare: a network for the CPU, `network` by default; the others as of `Updater`.
    """

    def __init__(
        self,
        network: DistributionTransformer,
        device: torch.device | None = None,
        settings: UpdateSettings | None = None,
        dtype: torch.dtype = torch.float32,
        capacity: DeviceCapacity | None = None,
        spare: DistributionTransformer | None = None,
    ) -> None:
        super().__init__(network, device, settings, dtype)
        self._capacity = capacity or DeviceCapacity()
        self._on_cpu = Updater(spare or network, torch.device("cpu"), settings, dtype)

    def _with(self, settings: UpdateSettings) -> Updater:
        spare = self._on_cpu.network
        return SparingUpdater(self.network, self.device, settings, self.dtype, self._capacity, spare)

    @property
    def has_closed_forms(self) -> bool:
        """As of `Updater`; they need no device."""
        return type(self).update is SparingUpdater.update

    def update(self, prior: GaussianMixture, observations: Observations) -> Update:
        """Update as `Updater.update` does; raises OutOfMemory if the CPU has no memory either."""
        if prior.batch != observations.batch or not prior.batch:
            return super().update(prior, observations)  # which raises the ValueError
        parts: list[tuple[Tensor, Update]] = []
        start = 0
        while start < prior.batch:
            count = self._capacity.allowed(prior.batch - start)
            index = torch.arange(start, start + (count or prior.batch - start))
            part = prior.rows(index), observations.rows_of(index)
            if count == prior.batch:  # the usual case
                part = prior, observations
            found = self._tried(*part) if count else self._without_device(*part)
            if found is not None:
                parts.append((index, found))
                start += len(index)
        return parts[0][1] if len(parts) == 1 else joined(parts)

    def _tried(self, prior: GaussianMixture, observations: Observations) -> Update | None:
        """The update on the device, or None if it has no room for so many."""
        try:
            return super().update(prior, observations)
        except RuntimeError as error:
            if not _is_memory(error):
                raise
        # outside the handler, the exception and the tensors in its frames are freed
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._capacity.exceeded(prior.batch)
        return None

    def _without_device(self, prior: GaussianMixture, observations: Observations) -> Update:
        try:
            found = self._on_cpu.update(prior, observations)
        except RuntimeError as error:
            if not _is_memory(error):
                raise
            raise OutOfMemory(f"update: no memory for {prior.batch} entities, on the CPU either") from error
        answered = (found.method == int(Method.TRANSFORMER)) | (found.method == int(Method.REFINED))
        return replace(found, method=torch.where(answered, int(Method.FALLBACK), found.method))


def _is_memory(error: RuntimeError) -> bool:
    """Whether an error means out of memory; the CPU's allocators raise no class of their own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
