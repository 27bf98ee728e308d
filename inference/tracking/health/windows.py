"""Sums of one sensor over a sliding window of event time, in blocks that grow with their age.

The newest blocks span a `BLOCKS`-th of the window each. Of each length about two remain. Older ones are joined in
pairs, as in the exponential histograms of Datar et al., "Maintaining stream statistics over sliding windows" (SIAM
Journal on Computing 31, 2002). About twenty blocks cover the window. Event time alone decides which blocks are joined,
never the values in them, so that tests may start at any block.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from beliefstream.inference.tracking.health.columns import WIDTH, Array

__all__ = ["BLOCKS", "ENTITY_BITS", "Block", "Window", "entity_bit", "merged"]

BLOCKS = 256  # shortest blocks in a window
ENTITY_BITS = 52  # a float has an integer of so many bits exactly
KEPT = 2  # blocks of each length that are not joined yet


def entity_bit(entity: bytes) -> int:
    """Return the bit of an entity's name; several entities share one."""
    return 1 << zlib.crc32(entity) % ENTITY_BITS


@dataclass
class Block:
    """Sums from `start` on, in numbers of shortest blocks since the epoch.

    Attributes:
        start: number of its first shortest block; a multiple of `length`.
        length: shortest blocks that it spans, a power of two.
        sums: ``(channels, WIDTH)``, see `inference.tracking.health.columns.Sum`.
    """

    start: int
    length: int
    sums: Array

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass
class Window:
    """Sums of one sensor over the last `seconds` of its observations.

    Attributes:
        seconds: length of the window.
        channels: numbers in one report of the sensor.
        blocks: in order of time, without overlap; empty ones are left out.
        first, newest: times of the first and the newest observation; infinite before there is one.
        longest_gap: longest time between two observations, in seconds; older gaps count less and less.
        too_old: observations from before the window, which are not counted.
        entities: bits of the entities observed, `entity_bit`.
    """

    seconds: float
    channels: int
    blocks: list[Block] = field(default_factory=list)
    first: float = math.inf
    newest: float = -math.inf
    longest_gap: float = 0.0
    too_old: int = 0
    entities: int = 0

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ValueError(f"seconds: must be positive, got {self.seconds}")

    @property
    def resolution(self) -> float:
        """Length of the shortest block, in seconds."""
        return self.seconds / BLOCKS

    def add(self, times: Array, terms: Array) -> bool:
        """Add one or more observations with these times ``(N,)`` and terms ``(N, channels, WIDTH)``, in any order.

        Returns whether all blocks but the newest are as before, and that has its place.
        """
        ordered = np.sort(times)
        first, last = (math.floor(time / self.resolution) for time in (float(ordered[0]), float(ordered[-1])))
        if first == last:  # nearly always
            self._note_times(ordered)
            only_newest = self._add_to(first, terms.sum(0), len(times))
        else:
            only_newest = self._add_several(times, terms)
        if not only_newest:
            self._join()
        return only_newest

    def _add_several(self, times: Array, terms: Array) -> bool:
        """Add observations of several shortest blocks."""
        numbers = np.floor(times / self.resolution).astype(np.int64)
        only_newest = True
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            self._note_times(np.sort(times[chosen]))
            only_newest &= self._add_to(number, terms[chosen].sum(0), int(chosen.sum()))
        return only_newest

    def total(self, since: float = -math.inf) -> Array:
        """Return the sums ``(channels, WIDTH)`` of the blocks that start at `since` (a block's number) or later."""
        sums = np.zeros((self.channels, WIDTH))
        for block in self.blocks:
            if block.start >= since:
                sums += block.sums
        return sums

    def _note_times(self, times: Array) -> None:
        """Note ordered times."""
        self.first = min(self.first, float(times[0]))
        later = times[times.searchsorted(self.newest, "right") :]
        if not len(later):
            return
        last = float(later[-1])
        previous = np.empty_like(later)
        previous[0] = self.newest if math.isfinite(self.newest) else later[0]
        previous[1:] = later[:-1]
        gaps = later - previous
        # halves in a window's time, so that one long pause does not hide all later ones
        self.longest_gap *= 0.5 ** ((last - float(previous[0])) / self.seconds)
        if gaps.max() > self.longest_gap:
            gaps *= 0.5 ** ((last - later) / self.seconds)
            self.longest_gap = max(self.longest_gap, float(gaps.max()))
        self.newest = last

    def _add_to(self, number: int, sums: Array, count: int) -> bool:
        """Add sums to the block of this number; returns whether the newest has taken them, or none."""
        for place in range(len(self.blocks), 0, -1):
            block = self.blocks[place - 1]
            if block.start <= number < block.end:
                block.sums = block.sums + sums
                return place == len(self.blocks)
            if block.end <= number:
                break
        else:
            place = 0
        if self.blocks and number <= self.blocks[-1].end - 1 - BLOCKS:
            self.too_old += count
            return True
        self.blocks.insert(place, Block(number, 1, sums))
        return False

    def _join(self) -> None:
        """Join blocks by their age, and drop those older than the window."""
        now = self.blocks[-1].end - 1
        joined: list[Block] = []
        for block in self.blocks:
            start, length = block.start, block.length
            while length < BLOCKS and (start - start % (2 * length)) + 2 * length * (1 + KEPT) <= now:
                length *= 2
                start -= start % length
            if block.end <= now + 1 - BLOCKS:
                continue
            if joined and joined[-1].start == start and joined[-1].length == length:
                joined[-1].sums = joined[-1].sums + block.sums
            else:
                joined.append(Block(start, length, block.sums))
        self.blocks = joined


def merged(windows: Iterable[Window]) -> Window:
    """Return one window with the sums of several, such as those of one sensor in all partitions.

    Its blocks may overlap.

    Raises:
        ValueError: there are none, or they differ in length or channels.
    """
    several = list(windows)
    if len({(window.seconds, window.channels) for window in several}) != 1:
        shapes = [(window.seconds, window.channels) for window in several]
        raise ValueError(f"windows: need one length and one number of channels, got {shapes}")
    whole = Window(several[0].seconds, several[0].channels)
    newest = max(window.newest for window in several)
    oldest = math.floor(newest / whole.resolution) - BLOCKS if math.isfinite(newest) else 0
    blocks = [block for window in several for block in window.blocks if block.end > oldest]
    whole.blocks = sorted(blocks, key=lambda block: (block.start, block.length))
    whole.first = min(window.first for window in several)
    whole.newest = newest
    whole.longest_gap = max(window.longest_gap for window in several)
    whole.too_old = sum(window.too_old for window in several)
    for window in several:
        whole.entities |= window.entities
    return whole
