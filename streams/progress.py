"""Compares the source recorded in the changelog with the broker: the rules of `streams.origin`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Offsets = Mapping[str, int]
"""Offsets by topic."""


@dataclass(frozen=True)
class Origin:
    """Source of one partition's beliefs.

    Attributes:
        changelog: its id.
        changelog_start: its first offset.
        topics: ids of the source topics by name.
        partitions: of the observations.
    """

    changelog: str
    changelog_start: int
    topics: Mapping[str, str]
    partitions: int


@dataclass(frozen=True)
class Progress:
    """How far the sources of one partition's beliefs have been read.

    Attributes:
        read: offsets after the last processed messages.
        held: offsets after the last messages that a belief may hold; more than `read` while messages are read again.
        committed: the group's committed offsets when this was written: nothing before them was left out.
    """

    read: Offsets = field(default_factory=dict)
    held: Offsets = field(default_factory=dict)
    committed: Offsets = field(default_factory=dict)

    def after(self, read: Offsets, committed: Offsets) -> Progress:
        """The progress after a batch has been processed up to `read`."""
        return Progress(_furthest(self.read, read), _furthest(self.held, read), committed)


@dataclass(frozen=True)
class Logs:
    """A partition's source logs at the broker, and the group's committed offsets."""

    earliest: Offsets
    ends: Offsets
    committed: Offsets


@dataclass(frozen=True)
class Faults:
    """Faults of one partition.

    Attributes:
        emptied: whether beliefs may have been lost.
        remade: source topics that were created again.
        cut: the ends of source topics that have lost their end.
        back: the offsets from which the group must continue.
        progress: after all faults are repaired.
    """

    emptied: bool
    remade: Collection[str]
    cut: Offsets
    back: Offsets
    progress: Progress

    def __bool__(self) -> bool:
        return bool(self.emptied or self.remade or self.cut or self.back)


def compare(known: Origin | None, progress: Progress, now: Origin, logs: Logs) -> Faults:
    """Compare the recorded source with the broker's state."""
    committed = {name: count for name, count in logs.committed.items() if count}
    emptied, remade = known is None, set[str]()
    if known is not None:
        emptied = known.changelog != now.changelog or now.changelog_start > known.changelog_start
        remade = {name for name, id_ in now.topics.items() if known.topics.get(name) != id_}
    same = now.topics.keys() - remade
    held = {name: end for name, end in progress.held.items() if name in same}
    due = _furthest(held, {name: end for name, end in committed.items() if name in same})
    cut = {name: logs.ends[name] for name, end in due.items() if end > logs.ends[name]}
    back = {}
    for name, count in committed.items():
        place = count
        if emptied or name in remade:
            place = logs.earliest[name]
        elif count > progress.read.get(name, 0):
            place = progress.committed.get(name, 0)
        place = min(place, cut.get(name, place))
        if place != count or emptied or name in remade:
            back[name] = place
    read = {name: end for name, end in progress.read.items() if name in same} | cut | back
    held = _furthest({name: end for name, end in held.items() if name not in cut} | cut, back)
    return Faults(emptied, remade, cut, back, Progress(read, held, progress.committed))


def _furthest(one: Offsets, other: Offsets) -> dict[str, int]:
    """For every topic the larger of both offsets."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}
