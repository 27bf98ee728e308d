"""Measures the posteriors per second of the update on a device, by size of the batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.updater import Updater
from research.bench.update import hard_problems, timed, tracks

LARGE = 512  # a batch of more is timed only once after the first call
FAMILIES: dict[str, Callable[[int], tuple[GaussianMixture, Observations]]] = {
    "tracks": tracks,
    "planar family": hard_problems,
}


@dataclass(frozen=True)
class DeviceSpeed:
    """One line of the table.

    Attributes:
        size: problems in a batch.
        per_second: checked posteriors a second.
        waiting: share of the time in which the GPU computes nothing; None on the processor.
        memory: most bytes that PyTorch held on the GPU; None on the processor.
    """

    family: str
    size: int
    per_second: float
    waiting: float | None
    memory: int | None


def measure_device(updater: Updater, sizes: Sequence[int]) -> list[DeviceSpeed]:
    """Measure all families and sizes on the updater's device."""
    torch.set_num_threads(1)
    found = []
    for family, problems in FAMILIES.items():
        for size in sizes:
            prior, observations = problems(size)

            def work(prior: GaussianMixture = prior, observations: Observations = observations) -> object:
                answer = updater.update(prior, observations)
                _wait(updater.device)
                return answer

            if updater.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(updater.device)
            seconds = timed(work, 5 if size <= LARGE else 1)
            found.append(DeviceSpeed(family, size, size / seconds, *_use_of(updater.device, work)))
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _use_of(device: torch.device, work: Callable[[], object]) -> tuple[float | None, int | None]:
    """The share of a call in which the GPU waits, and the most memory of all calls so far."""
    if device.type != "cuda":
        return None, None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    busy = sum(event.self_device_time_total for event in profile.key_averages()) * 1e-6
    return max(0.0, 1.0 - busy / seconds), torch.cuda.max_memory_allocated(device)
