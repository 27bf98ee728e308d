"""What the changelog says its beliefs were computed from, held against what is there: the rules of `streams.origin`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Offsets = Mapping[str, int]
"""By topic."""


@dataclass(frozen=True)
class Origin:
    """Of one partition's beliefs.

    Attributes:
        changelog: its id. changelog_start: its first offset.
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
        read: offsets after the last messages that have been dealt with.
        held: after the last ones that a belief may hold; more than `read` where it is read again.
        committed: what the group had committed when this was written: before it nothing was left out.
    """

    read: Offsets = field(default_factory=dict)
    held: Offsets = field(default_factory=dict)
    committed: Offsets = field(default_factory=dict)

    def after(self, read: Offsets, committed: Offsets) -> Progress:
        """Once a batch has been dealt with, up to `read`."""
        return Progress(_furthest(self.read, read), _furthest(self.held, read), committed)


@dataclass(frozen=True)
class Logs:
    """A partition's source logs as they are now, and what the group has committed of them."""

    earliest: Offsets
    ends: Offsets
    committed: Offsets


@dataclass(frozen=True)
class Faults:
    """What is wrong with one partition.

    Attributes:
        emptied: whether beliefs may be missing that were there.
        remade: source topics that are others now. cut: where those end that have lost their end.
        back: the offsets that the group is to go on from.
        progress: as it is once all is seen to.
    """

    emptied: bool
    remade: Collection[str]
    cut: Offsets
    back: Offsets
    progress: Progress

    def __bool__(self) -> bool:
        return bool(self.emptied or self.remade or self.cut or self.back)


def compare(known: Origin | None, progress: Progress, now: Origin, logs: Logs) -> Faults:
    """Hold what the changelog says against what is there."""
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
