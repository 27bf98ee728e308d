"""The newest belief of each entity, with a bounded history, as the page needs it.

A block is what a frame says of one entity: its number, method and quality, and the components over the plane.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from beliefstream.schemas.posterior import Method
from beliefstream.streams.live.earth import Plane, degree_plane, stretch_of
from beliefstream.streams.live.latencies import Seen
from beliefstream.streams.live.posteriors import AnyPosterior

MAXIMUM_ENTITIES = 2000  # those that were silent longest make room
MAXIMUM_SAMPLES = 240  # of an entity's history, about 80 kB for 8 components of 4 coordinates
MAXIMUM_OBSERVATIONS = 8  # of an entity
SAMPLE_INTERVAL = 1.0  # least seconds of event time between two samples
BLOCK = struct.Struct("<IHHffd")  # number, components, method, effective sample size, surprise, time
METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True)
class Sample:
    """The marginals of a belief at one time, for the chart.

    Attributes:
        number: of the entity's samples, counted from 1.
        time: of the state, seconds since the epoch.
        marginals: weights (K,), means (K, D) and variances (K, D), flattened, float32.
    """

    number: int
    time: float
    components: int
    marginals: bytes

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        numbers = np.nan_to_num(np.frombuffer(self.marginals, dtype="<f4")).tolist()  # JSON has no infinity
        return {"t": self.time, "k": self.components, "q": [float(f"{number:.7g}") for number in numbers]}


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
    posterior: AnyPosterior
    version: int
    block: bytes
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=MAXIMUM_SAMPLES))
    observations: deque[Seen] = field(default_factory=lambda: deque(maxlen=MAXIMUM_OBSERVATIONS))
    sample_count: int = 0

    def samples_after(self, number: int) -> list[Sample]:
        """The samples that are newer than the one of that number, oldest first."""
        return [sample for sample in self.samples if sample.number > number]

    def remember(self) -> None:
        """Add the posterior to the history; a history of a later time is dropped."""
        time = self.posterior.time
        while self.samples and self.samples[-1].time >= time:
            self.samples.pop()
        if self.samples and time - self.samples[-1].time < SAMPLE_INTERVAL:
            return
        self.sample_count += 1
        mixture = self.posterior.mixture
        variances = np.diagonal(np.asarray(mixture.covariances), axis1=1, axis2=2)
        parts = (np.asarray(mixture.weights), np.asarray(mixture.means).ravel(), variances.ravel())
        marginals = np.concatenate(parts).astype("<f4").tobytes()
        self.samples.append(Sample(self.sample_count, time, mixture.components, marginals))


@dataclass(frozen=True)
class Changes:
    """What is new since a version: entities from the one that changed last, and numbers of those that left."""

    version: int
    entities: Sequence[Entity]
    gone: Sequence[int]


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

    def add(self, posterior: AnyPosterior) -> None:
        """Replace the belief of the posterior's entity."""
        if self.plane is None:
            self.plane = default_plane(posterior)
        if (
            self.stretch is None
            and self.plane is not None
            and set(self.plane) <= set(posterior.coordinate_names)
        ):
            self.stretch = stretch_of(posterior, self.plane)
        self.version += 1
        entity = self.entities.get(posterior.entity)
        if entity is None:
            self._numbers += 1
            entity = Entity(self._numbers, posterior.entity, posterior, self.version, b"")
            self.entities[posterior.entity] = entity
        entity.posterior, entity.version = posterior, self.version
        entity.block = block_of(entity.number, posterior, self.plane, self.stretch or 1.0)
        entity.remember()
        self.entities.move_to_end(posterior.entity)
        while len(self.entities) > MAXIMUM_ENTITIES:
            self._gone.append((self.version, self.entities.popitem(last=False)[1].number))

    def changes(self, since: int) -> Changes:
        """What has changed after that version."""
        changed = []
        for entity in reversed(self.entities.values()):
            if entity.version <= since:
                break
            changed.append(entity)
        gone = [number for version, number in self._gone if version > since] if since else []
        return Changes(self.version, changed, gone)


def default_plane(posterior: AnyPosterior) -> Plane | None:
    """x and y, or else longitude and latitude in degrees, or else the first two coordinates; None if there is one."""
    names = posterior.coordinate_names
    if "x" in names and "y" in names:
        return "x", "y"
    return degree_plane(posterior) or ((names[0], names[1]) if len(names) > 1 else None)


def block_of(number: int, posterior: AnyPosterior, plane: Plane | None, stretch: float = 1.0) -> bytes:
    """The entity's part of a frame: a head, and weight, mean and covariance over the plane of each component.

    The first coordinate of the plane is multiplied by `stretch`.
    """
    names, quality = posterior.coordinate_names, posterior.quality
    shown = plane is not None and plane[0] in names and plane[1] in names
    components = posterior.mixture.components if shown else 0
    head = BLOCK.pack(
        number,
        components,
        METHODS.index(quality.method),
        quality.effective_sample_size,
        quality.surprise,
        posterior.time,
    )
    if plane is None or not components:
        return head
    i, j = names.index(plane[0]), names.index(plane[1])
    mixture, numbers = posterior.mixture, array("f")
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        upper, lower = covariance[i], covariance[j]
        numbers.extend(
            (
                weight,
                stretch * mean[i],
                mean[j],
                stretch**2 * upper[i],
                stretch * upper[j],
                lower[j],
            )
        )
    if sys.byteorder == "big":
        numbers.byteswap()
    return head + numbers.tobytes()
