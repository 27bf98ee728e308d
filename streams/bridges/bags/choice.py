"""What of a bag is used, and the row that each message makes, whatever the bag is stored in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from beliefstream.schemas import Reason, Unusable
from beliefstream.streams.bridges.bags.quantities import TYPES, Read, type_of
from beliefstream.streams.bridges.bags.topics import BagTopic
from beliefstream.streams.bridges.tables import Cells, Row

NANOSECONDS = 1e9


@dataclass(frozen=True)
class Use:
    """What one topic gives: an observation for each of these topics of the mapping."""

    topic: BagTopic
    entity: str | None
    sensor: str
    read: Read


@dataclass
class Choice:
    """Decides what of each topic is used, once."""

    path: str
    topics: tuple[BagTopic, ...] | None
    has_entity: bool
    seen: dict[str, str] = field(default_factory=dict)
    used: dict[str, tuple[Use, ...]] = field(default_factory=dict)

    def uses(self, topic: str, kind: str | None, encoding: str) -> tuple[Use, ...]:
        """The uses of a topic by its name, its type and its encoding; raises ValueError as `read_bag`."""
        if topic not in self.seen:
            self.seen[topic] = type_of(kind) if kind is not None else "no type"
            found = tuple(self._new(topic, self.seen[topic], encoding))
            if found:
                self.used[topic] = found
        return self.used.get(topic, ())

    def check_used(self) -> None:
        """Raise ValueError if nothing is used."""
        if not self.used:
            listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(self.seen.items()))
            raise ValueError(f"{self.path}: no topic of it is used; there are {listed or 'none'}")

    def _new(self, name: str, kind: str, encoding: str) -> Iterator[Use]:
        rules = self.topics if self.topics is not None else (BagTopic(topic=name),)
        for rule in rules:
            names = rule.names(name)
            if names is None or (self.topics is None and kind not in TYPES):
                continue
            if kind not in TYPES or encoding != "cdr":
                known = ", ".join(TYPES)
                raise ValueError(
                    f"{self.path}: {name} is of type {kind} ({encoding}), which is not read; "
                    f"read are, of ROS 2: {known}"
                )
            quantity = rule.quantity or next(iter(TYPES[kind]))
            if quantity not in TYPES[kind]:
                known = ", ".join(TYPES[kind])
                raise ValueError(f"mapping: quantity: {name} of type {kind} has {known}, not {quantity!r}")
            entity, sensor = names
            if entity is None and not self.has_entity:
                raise ValueError(
                    f"{self.path}: whose is {name}? Name the entity: --set entity=NAME, or entity of "
                    "the topic in a mapping"
                )
            yield Use(rule, entity, sensor, TYPES[kind][quantity])


def rows_of(
    uses: tuple[Use, ...], place: str, content: Any, fault: str | None, recorded: int
) -> Iterator[Row]:
    """The rows of one message.

    Args:
        uses: of its topic.
        place: where it stands in the bag.
        content: the decoded message.
        fault: why it cannot be decoded, if so.
        recorded: when, in nanoseconds since the epoch.
    """
    for use in uses:
        cells = (
            cells_of(use, content, recorded)
            if fault is None
            else Unusable(Reason.invalid, f"message: cannot be decoded: {fault}")
        )
        yield Row(f"{place} as {use.sensor}" if len(uses) > 1 else place, cells)


def cells_of(use: Use, content: Any, recorded: int) -> Cells | Unusable:
    """The cells of a message that was recorded at that time, in nanoseconds, or why it gives none."""
    try:
        value, covariance = use.read(content, use.topic.dimensions)
        return {
            "entity": use.entity,
            "sensor": use.sensor,
            "time": _time(use.topic, content, recorded),
            "value": value[0] if len(value) == 1 else value,
            "covariance": covariance if use.topic.covariance == "message" else None,
        }
    except Unusable as error:
        return error


def _time(topic: BagTopic, content: Any, recorded: int) -> float:
    if topic.time == "log":
        return recorded / NANOSECONDS
    stamp = content.header.stamp
    if not stamp.sec and not stamp.nanosec:
        raise Unusable(
            Reason.invalid_time, "header.stamp: it is 0; time: log in the mapping is the time of recording"
        )
    return float(stamp.sec + stamp.nanosec / NANOSECONDS)


def where(number: int, topic: str, name: str) -> str:
    """Where a message stands: its number among those of its topic, and its file if there are several."""
    return f"message {number} of {topic}" + (f" in {name}" if name else "")


def damaged(read: int, name: str, error: Exception) -> Row:
    """The row that stands for the rest of a file, of which nothing can be read after so many messages."""
    place = f"{name} " if name else ""
    fault = f"message: the bag is damaged, the rest is not read ({said(error)})"
    return Row(f"{place}after message {read}", Unusable(Reason.invalid, fault))


def said(error: Exception) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__}: {error}"[:200]
