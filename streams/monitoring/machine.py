"""Metrics of a worker's machine, read when they are asked for: the disk with its data, and the memory of its GPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from beliefstream.streams.monitoring.metrics import REGISTRY

__all__ = ["MACHINE", "Machine"]

Memory = Callable[[], tuple[int, int]]
"""Free and all bytes of a GPU's memory, as `torch.cuda.mem_get_info` says them."""


class Machine(Collector):
    """A collector; what it does not know has no samples."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._memory: Memory | None = None

    def watch(self, directory: Path, memory: Memory | None = None) -> None:
        """Tell of the file system of that directory, and of a GPU if there is one."""
        self._directory, self._memory = directory, memory

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the system."""
        disk, gpu = self._disk(), None if self._memory is None else self._memory()
        told = (
            (
                "disk_free_bytes",
                "Free bytes of the file system of BELIEFSTREAM_DATA_DIRECTORY",
                disk and disk[0],
            ),
            (
                "disk_size_bytes",
                "All bytes of the file system of BELIEFSTREAM_DATA_DIRECTORY",
                disk and disk[1],
            ),
            (
                "gpu_memory_free_bytes",
                "Free bytes of the GPU's memory, which other processes share; none without a GPU",
                gpu and gpu[0],
            ),
            ("gpu_memory_size_bytes", "All bytes of the GPU's memory; none without a GPU", gpu and gpu[1]),
        )
        for name, text, value in told:
            family = GaugeMetricFamily(f"beliefstream_{name}", text)
            if value is not None:
                family.add_metric([], value)
            yield family

    def _disk(self) -> tuple[int, int] | None:
        """Free and all bytes; of the parent while the directory is not there yet."""
        if self._directory is None:
            return None
        directory = self._directory.absolute()
        for place in (directory, *directory.parents):
            try:
                usage = shutil.disk_usage(place)
            except FileNotFoundError:
                continue
            except OSError:
                return None
            return usage.free, usage.total
        return None


MACHINE = Machine()
REGISTRY.register(MACHINE)
