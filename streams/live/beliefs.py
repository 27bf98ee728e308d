"""The newest belief of each entity, with a bounded history, as the page needs it.

A block is what a frame says of one entity: its number, method and quality, and the components over the plane.
"""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import get_args

import numpy as np

from beliefstream.schemas.posterior import Method
from beliefstream.streams.live.earth import Plane, degree_plane, stretch_of
from beliefstream.streams.live.groups import Group
from beliefstream.streams.live.latencies import Seen
from beliefstream.streams.live.posteriors import PlainPosterior
from beliefstream.streams.live.samples import Samples

MAXIMUM_ENTITIES = 2000  # those that were silent longest make room
MAXIMUM_OBSERVATIONS = 8  # of an entity
SAMPLE_INTERVAL = 1.0  # least seconds of event time between two samples
BLOCK = struct.Struct("<IHHffd")  # number, components, method, effective sample size, surprise, time
METHODS: tuple[str, ...] = get_args(Method)
NUMBER_OF = {method: number for number, method in enumerate(METHODS)}


@dataclass
class Entity:
    """An entity on the page.

    Attributes:
        number: stands for the name in frames; never given twice.
        version: of the last change, counted over all entities.
        observations: the last ones, not parsed.
    """

    number: int
    name: str
    posterior: PlainPosterior
    version: int = 0
    block: bytes = b""
    samples: Samples = field(default_factory=Samples)
    observations: deque[Seen] = field(default_factory=lambda: deque(maxlen=MAXIMUM_OBSERVATIONS))

    def remember(self, group: Group, row: int) -> None:
        """Add the posterior, a row of the group, to the history; a history of a later time is dropped."""
        time, samples = self.posterior.time, self.samples
        samples.forget_from(time)
        if time - samples.last >= SAMPLE_INTERVAL:
            samples.add(time, group.components, group.marginals[row])


@dataclass
class Changes:
    """What is new since a version: entities from the one that changed last, and numbers of those that left."""

    version: int
    entities: Sequence[Entity]
    gone: Sequence[int]

    @cached_property
    def blocks(self) -> bytes:
        """Those of the entities, one after the other."""
        return b"".join([entity.block for entity in self.entities])


Update = tuple[int, Entity, Group, int, bytes]
"""Place of a posterior, its entity, its group and row there, and the block."""


class Beliefs:
    """All entities by name, the one that changed last at the end.

    Args:
        plane: the coordinates to show; if absent x and y, or else longitude and latitude in degrees, or else the first
            two of the first posterior.

    Attributes:
        stretch: factor of the first coordinate on the map; the cosine of the first latitude if the plane is one of
            degrees, otherwise 1.
    """

    def __init__(self, plane: Plane | None = None) -> None:
        self.plane = plane
        self.stretch: float | None = None
        self.entities: OrderedDict[str, Entity] = OrderedDict()
        self.version = 0
        self._numbers = 0
        self._gone: deque[tuple[int, int]] = deque(maxlen=MAXIMUM_ENTITIES)
        self._changes: dict[int, Changes] = {}  # that have been asked for, by the version before

    def take(self, groups: Sequence[Group]) -> None:
        """Replace the beliefs of the posteriors' entities, in the order in which they came."""
        found = [update for group in groups for update in self._updates(group)]
        if len(groups) > 1:
            found.sort(key=_place)
        self._changes.clear()
        move_to_end, version = self.entities.move_to_end, self.version
        for _, entity, group, row, block in found:
            version += 1
            entity.posterior = posterior = group.posteriors[row]
            entity.version, entity.block = version, block
            if not 0 < posterior.time - entity.samples.last < SAMPLE_INTERVAL:
                entity.remember(group, row)
            move_to_end(entity.name)
        self.version = version
        while len(self.entities) > MAXIMUM_ENTITIES:
            self._gone.append((self.version, self.entities.popitem(last=False)[1].number))

    def changes(self, since: int) -> Changes:
        """What has changed after that version."""
        if (known := self._changes.get(since)) is not None:
            return known
        changed = []
        for entity in reversed(self.entities.values()):
            if entity.version <= since:
                break
            changed.append(entity)
        gone = [number for version, number in self._gone if version > since] if since else []
        return self._changes.setdefault(since, Changes(self.version, changed, gone))

    def _updates(self, group: Group) -> list[Update]:
        """What the group changes; entities that are new are added."""
        if not group.posteriors:
            return []
        names = group.coordinate_names
        if self.plane is None:
            self.plane = default_plane(group.posteriors[0])
        if self.stretch is None and self.plane is not None and set(self.plane) <= set(names):
            self.stretch = stretch_of(group.posteriors[0], self.plane)
        entities = [self._entity(posterior) for posterior in group.posteriors]
        blocks = blocks_of(group, [each.number for each in entities], self.plane, self.stretch or 1.0)
        return [
            (place, entity, group, row, block)
            for row, (place, entity, block) in enumerate(zip(group.places, entities, blocks, strict=True))
        ]

    def _entity(self, posterior: PlainPosterior) -> Entity:
        entity = self.entities.get(posterior.entity)
        if entity is None:
            self._numbers += 1
            entity = self.entities[posterior.entity] = Entity(self._numbers, posterior.entity, posterior)
        return entity


def default_plane(posterior: PlainPosterior) -> Plane | None:
    """x and y, or else longitude and latitude in degrees, or else the first two coordinates; None if there is one."""
    names = posterior.coordinate_names
    if "x" in names and "y" in names:
        return "x", "y"
    return degree_plane(posterior) or ((names[0], names[1]) if len(names) > 1 else None)


def blocks_of(group: Group, numbers: Sequence[int], plane: Plane | None, stretch: float = 1.0) -> list[bytes]:
    """The entities' parts of a frame: a head, and weight, mean and covariance over the plane of each component.

    The first coordinate of the plane is multiplied by `stretch`.
    """
    names, posteriors = group.coordinate_names, group.posteriors
    shown = plane is not None and plane[0] in names and plane[1] in names
    rows = np.zeros(len(numbers), _block_type(group.components if shown else 0))
    rows["number"], rows["components"] = numbers, group.components if shown else 0
    rows["method"] = [NUMBER_OF[each.quality.method] for each in posteriors]
    rows["share"] = [each.quality.effective_sample_size for each in posteriors]
    rows["surprise"] = [each.quality.surprise for each in posteriors]
    rows["time"] = [each.time for each in posteriors]
    if plane is not None and shown:
        first, second = names.index(plane[0]), names.index(plane[1])
        means, covariances = group.means, group.covariances
        columns = (
            group.weights,
            stretch * means[:, :, first],
            means[:, :, second],
            stretch**2 * covariances[:, :, first, first],
            stretch * covariances[:, :, first, second],
            covariances[:, :, second, second],
        )
        with np.errstate(over="ignore"):  # single precision ends earlier
            for column, values in enumerate(columns):
                rows["parts"][:, :, column] = values
    data, size = rows.tobytes(), rows.itemsize
    return [data[begin : begin + size] for begin in range(0, len(data), size)]


@lru_cache
def _block_type(components: int) -> np.dtype[np.void]:
    """BLOCK, and six numbers of each component."""
    head = [
        ("number", "<u4"),
        ("components", "<u2"),
        ("method", "<u2"),
        ("share", "<f4"),
        ("surprise", "<f4"),
    ]
    return np.dtype([*head, ("time", "<f8"), ("parts", "<f4", (components, 6))])


def _place(update: Update) -> int:
    return update[0]
