"""The newest belief of each entity, with a bounded history, as the page needs it.

A block is what a frame says of one entity: its number, method and quality, and the components over the plane.
"""

from __future__ import annotations

import math
import struct
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import GeodeticSensor, Sensor
from beliefstream.schemas.beliefs.posterior import Method
from beliefstream.streams.live.posteriors import Group, PlainPosterior

WINDOW = 5.0  # seconds
MOST = 2000  # latencies in it
LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon", "lng")
DEGREES = ("deg", "degree", "degrees", "°")
HIGHEST = 85.0  # degrees of latitude: nearer to a pole a map is stretched no further
MAXIMUM_SAMPLES = 240  # about 70 kB for 8 components of 4 coordinates
_HEAD = np.dtype([("number", "<i8"), ("time", "<f8"), ("components", "<u4"), ("width", "<u4")])
MAXIMUM_ENTITIES = 2000  # those that were silent longest make room
MAXIMUM_OBSERVATIONS = 8  # of an entity
SAMPLE_INTERVAL = 1.0  # least seconds of event time between two samples
# number, components, method, sample efficiency, time of the record, time
BLOCK = struct.Struct("<IHHfdd")
METHODS: tuple[str, ...] = get_args(Method)
NUMBER_OF = {method: number for number, method in enumerate(METHODS)}


class Seen(NamedTuple):
    """An observation as it is on the topic; `stamp` is the time of its record, in seconds."""

    partition: int
    offset: int
    stamp: float
    value: bytes


class Latencies:
    """Those of the last seconds."""

    def __init__(self) -> None:
        self._found: deque[tuple[float, float]] = deque(maxlen=MOST)  # when they were found, and how long

    def add(self, posterior: PlainPosterior, stamp: float, observations: Iterable[Seen]) -> None:
        """Measure what of the posterior's own observations is among the entity's last ones; `stamp` is as theirs."""
        now, applied = time.monotonic(), set(posterior.applied)
        identifiers = [b'"' + label.encode() + b'"' for label in posterior.applied]
        for each in observations:
            is_applied = f"{each.partition}:{each.offset}" in applied
            if is_applied or any(identifier in each.value for identifier in identifiers):
                self._found.append((now, max(0.0, stamp - each.stamp)))

    def quantiles(self, *shares: float) -> tuple[float, ...] | None:
        """Quantiles in seconds; None if no posterior of the last seconds could be matched."""
        while self._found and self._found[0][0] < time.monotonic() - WINDOW:
            self._found.popleft()
        if not self._found:
            return None
        return tuple(float(each) for each in np.quantile([seconds for _, seconds in self._found], shares))


Plane = tuple[str, str]
"""The names of the two coordinates that the map shows: to the right, and upwards."""


def degree_plane(posterior: PlainPosterior) -> Plane | None:
    """The coordinates of longitude and latitude in degrees, in this order; None unless there are both."""
    names = [each.name for each in posterior.coordinates if each.unit in DEGREES]
    latitude = next((name for name in names if name.lower() in LATITUDES), None)
    longitude = next((name for name in names if name.lower() in LONGITUDES), None)
    return (longitude, latitude) if latitude is not None and longitude is not None else None


def stretch_of(posterior: PlainPosterior, plane: Plane) -> float:
    """How long a degree of longitude is against one of latitude: the cosine of the latitude; 1 in other planes."""
    if degree_plane(posterior) != plane:
        return 1.0
    latitude = posterior.mixture.mean()[posterior.coordinate_names.index(plane[1])]
    return math.cos(math.radians(min(abs(float(latitude)), HIGHEST)))


def earth_note(plane: Plane | None, stretch: float, sensors: Iterable[Sensor]) -> dict[str, Any] | None:
    """What the page draws its grid by; None in a plane that is nowhere.

    Sensors that name different origins for the same plane contradict each other: then it is nowhere too.
    """
    if stretch != 1.0:
        return {"kind": "degrees", "stretch": stretch}
    origins = {
        (sensor.origin.latitude, sensor.origin.longitude, sensor.origin.altitude)
        for sensor in sensors
        if isinstance(sensor, GeodeticSensor) and tuple(sensor.coordinates[:2]) == plane
    }
    if len(origins) != 1:
        return None
    latitude, longitude, altitude = origins.pop()
    return {"kind": "tangent", "latitude": latitude, "longitude": longitude, "altitude": altitude}


class Sample(NamedTuple):
    """The marginals of a belief at one time, for the chart."""

    number: int  # of the entity's samples, counted from 1
    time: float  # of the state, seconds since the epoch
    components: int
    marginals: NDArray[np.float32]  # weights (K,), means (K, D) and variances (K, D), flattened

    def to_json(self) -> dict[str, Any]:
        """As the page reads it."""
        numbers = np.nan_to_num(self.marginals).tolist()  # JSON has no infinity
        return {"t": self.time, "k": self.components, "q": [float(f"{number:.7g}") for number in numbers]}


class Samples:
    """The last samples of an entity, in order of time; the oldest make room."""

    def __init__(self) -> None:
        self.count = 0  # of all samples so far, those that are gone included
        self.last = -np.inf  # time of the newest, if there is one
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


@dataclass
class Entity:
    """An entity on the page, with its last observations."""

    number: int  # stands for the name in frames; never given twice
    name: str
    posterior: PlainPosterior
    version: int = 0  # of the last change, counted over all entities
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

    def take(self, groups: Sequence[Group], stamps: Sequence[float]) -> None:
        """Replace the beliefs of the posteriors' entities, in the order in which they came.

        Args:
            stamps: the time of the record at each place, seconds since the epoch.
        """
        found = [update for group in groups for update in self._updates(group, stamps)]
        if len(groups) > 1:
            found.sort(key=itemgetter(0))
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

    def _updates(self, group: Group, stamps: Sequence[float]) -> list[Update]:
        """What the group changes; entities that are new are added."""
        if not group.posteriors:
            return []
        names = group.coordinate_names
        if self.plane is None:
            self.plane = default_plane(group.posteriors[0])
        if self.stretch is None and self.plane is not None and set(self.plane) <= set(names):
            self.stretch = stretch_of(group.posteriors[0], self.plane)
        entities = [self._entity(posterior) for posterior in group.posteriors]
        numbers, times = [each.number for each in entities], [stamps[place] for place in group.places]
        blocks = blocks_of(group, numbers, times, self.plane, self.stretch or 1.0)
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


def blocks_of(
    group: Group, numbers: Sequence[int], stamps: Sequence[float], plane: Plane | None, stretch: float = 1.0
) -> list[bytes]:
    """The entities' parts of a frame: a head, and weight, mean and covariance over the plane of each component.

    The first coordinate of the plane is multiplied by `stretch`.
    """
    names, posteriors = group.coordinate_names, group.posteriors
    shown = plane is not None and plane[0] in names and plane[1] in names
    rows = np.zeros(len(numbers), _block_type(group.components if shown else 0))
    rows["number"], rows["components"] = numbers, group.components if shown else 0
    rows["method"] = [NUMBER_OF[each.quality.method] for each in posteriors]
    rows["share"] = [each.quality.sample_efficiency for each in posteriors]
    rows["stamp"] = stamps
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
        ("stamp", "<f8"),
        ("time", "<f8"),
    ]
    return np.dtype([*head, ("parts", "<f4", (components, 6))])
