"""Compares the source recorded in the changelog with the broker, by the rules of `streams.state.lineage`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Offsets = Mapping[str, int]
"""Offsets by topic."""


@dataclass(frozen=True)
class SourceRecord:
    """The source of one partition's beliefs.

    Attributes:
        changelog: the id of the changelog topic.
        changelog_start: the first offset of the changelog partition.
        topics: the ids of the source topics, by name.
        partitions: the number of partitions of the observations topic.
    """

    changelog: str
    changelog_start: int
    topics: Mapping[str, str]
    partitions: int


@dataclass(frozen=True)
class ReadProgress:
    """How far the sources of one partition's beliefs have been read.

    Attributes:
        read: offsets before which all messages are processed.
        held: offsets after the last messages that a belief may contain; beyond `read` while messages are read again, or
            wait although later ones of other entities are applied.
        committed: the group's committed offsets when this was written; all messages before them were processed.
    """

    read: Offsets = field(default_factory=dict)
    held: Offsets = field(default_factory=dict)
    committed: Offsets = field(default_factory=dict)

    def after(self, read: Offsets, held: Offsets, committed: Offsets) -> ReadProgress:
        """Return the progress after a batch; all messages before `read` are processed, and none from `held` on."""
        return ReadProgress(_larger_offsets(self.read, read), _larger_offsets(self.held, held), committed)


@dataclass(frozen=True)
class Logs:
    """A partition's source logs at the broker, and the group's committed offsets."""

    earliest_offsets: Offsets
    end_offsets: Offsets
    committed: Offsets


@dataclass(frozen=True)
class Faults:
    """Faults of one partition.

    Attributes:
        beliefs_lost: whether beliefs may have been lost.
        recreated: source topics that were deleted and created again.
        truncated: the end offsets of source topics that have lost their end.
        starting_offsets: the offsets from which the group must continue.
        progress: the progress after all faults are repaired.
    """

    beliefs_lost: bool
    recreated: Collection[str]
    truncated: Offsets
    starting_offsets: Offsets
    progress: ReadProgress

    def __bool__(self) -> bool:
        return bool(self.beliefs_lost or self.recreated or self.truncated or self.starting_offsets)


def compare(known: SourceRecord | None, progress: ReadProgress, now: SourceRecord, logs: Logs) -> Faults:
    """Compare the recorded source with the broker's state."""
    committed = {name: count for name, count in logs.committed.items() if count}
    beliefs_lost, recreated = known is None, set[str]()
    if known is not None:
        beliefs_lost = known.changelog != now.changelog or now.changelog_start > known.changelog_start
        recreated = {name for name, id_ in now.topics.items() if known.topics.get(name) != id_}
    same = now.topics.keys() - recreated
    held = {name: end for name, end in progress.held.items() if name in same}
    due = _larger_offsets(held, {name: end for name, end in committed.items() if name in same})
    truncated = {name: logs.end_offsets[name] for name, end in due.items() if end > logs.end_offsets[name]}
    starting_offsets = {}
    for name, count in committed.items():
        place = count
        if beliefs_lost or name in recreated:
            place = logs.earliest_offsets[name]
        elif count > progress.read.get(name, 0):
            place = progress.committed.get(name, 0)
        place = min(place, truncated.get(name, place))
        if place != count or beliefs_lost or name in recreated:
            starting_offsets[name] = place
    read = {name: end for name, end in progress.read.items() if name in same} | truncated | starting_offsets
    held = _larger_offsets(
        {name: end for name, end in held.items() if name not in truncated} | truncated, starting_offsets
    )
    return Faults(
        beliefs_lost, recreated, truncated, starting_offsets, ReadProgress(read, held, progress.committed)
    )


def _larger_offsets(one: Offsets, other: Offsets) -> dict[str, int]:
    """For every topic the larger of both offsets."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}
