"""The history of an entity for its chart: marginals in arrays that are allocated once, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAXIMUM_SAMPLES = 240  # about 70 kB for 8 components of 4 coordinates


class Sample(NamedTuple):
    """The marginals of a belief at one time, for the chart.

    Attributes:
        number: of the entity's samples, counted from 1.
        time: of the state, seconds since the epoch.
        marginals: weights (K,), means (K, D) and variances (K, D), flattened.
    """

    number: int
    time: float
    components: int
    marginals: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        numbers = np.nan_to_num(self.marginals).tolist()  # JSON has no infinity
        return {"t": self.time, "k": self.components, "q": [float(f"{number:.7g}") for number in numbers]}


_HEAD = np.dtype([("number", "<i8"), ("time", "<f8"), ("components", "<u4"), ("width", "<u4")])


class Samples:
    """The last samples of an entity, in order of time; the oldest make room.

    Attributes:
        count: of all samples so far, those that are gone included.
        last: time of the newest; minus infinity if there is none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = -np.inf
        self._heads = np.zeros(0, _HEAD)
        self._marginals = np.zeros((0, 0), np.float32)
        self._begin = self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        for place in range(self._length):
            row = (self._begin + place) % MAXIMUM_SAMPLES
            number, time, components, width = self._heads[row].tolist()
            yield Sample(number, time, components, self._marginals[row, :width].copy())

    def after(self, number: int) -> list[Sample]:
        """Those that are newer than the one of that number, oldest first."""
        return [sample for sample in self if sample.number > number]

    def forget_from(self, time: float) -> None:
        """Drop the samples of that time and later."""
        while self._length and self.last >= time:
            self._length -= 1
            row = (self._begin + self._length - 1) % MAXIMUM_SAMPLES
            self.last = float(self._heads["time"][row]) if self._length else -np.inf

    def add(self, time: float, components: int, marginals: NDArray[np.float32]) -> None:
        """Add one that is newer than all others."""
        width = len(marginals)
        if width > self._marginals.shape[1]:
            self._widen(width)
        if self._length == MAXIMUM_SAMPLES:
            self._begin = (self._begin + 1) % MAXIMUM_SAMPLES
            self._length -= 1
        row = (self._begin + self._length) % MAXIMUM_SAMPLES
        self.count += 1
        self._heads[row] = (self.count, time, components, width)
        self._marginals[row, :width] = marginals
        self._length += 1
        self.last = time

    def _widen(self, width: int) -> None:
        """Allocate; the arrays are written to at once, since the system counts memory only when it is."""
        before = self._marginals
        self._marginals = np.full((MAXIMUM_SAMPLES, width), np.nan, np.float32)
        self._marginals[: len(before), : before.shape[1]] = before
        if not len(self._heads):
            self._heads = np.full(MAXIMUM_SAMPLES, np.zeros((), _HEAD))
