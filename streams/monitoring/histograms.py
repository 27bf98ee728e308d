"""A histogram that takes many values at once; those of prometheus_client take one, at several microseconds each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["BulkHistogram"]


class BulkHistogram(Collector):
    """A histogram without labels.

    Args:
        name: its name, with its unit.
        documentation: what it measures.
        buckets: upper bounds, in ascending order; infinity is added.
        registry: where it is registered.
    """

    def __init__(
        self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = np.array([*buckets, math.inf])
        self._counts = np.zeros(len(self._bounds), dtype=np.int64)
        self._sum = 0.0
        self._lock = Lock()
        registry.register(self)

    def observe(self, values: ArrayLike) -> None:
        """Count all these values; NaN is left out."""
        numbers = np.asarray(values, dtype=np.float64)
        numbers = numbers[~np.isnan(numbers)]
        places = np.searchsorted(self._bounds, numbers)  # the first bound that is not below the value
        with self._lock:
            self._counts += np.bincount(places, minlength=len(self._bounds))
            self._sum += float(numbers.sum())

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return the counts so far; the registry calls this."""
        with self._lock:
            counts, total = self._counts.cumsum().tolist(), self._sum
        bounds = map(floatToGoString, self._bounds.tolist())
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], list(zip(bounds, counts, strict=True)), total)
        return [family]
