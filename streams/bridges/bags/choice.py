"""What of a bag is used, and the row that each message makes, whatever the bag is stored in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from beliefstream.schemas import Reason, Unusable
from beliefstream.streams.bridges.bags.quantities import TYPES, Read, type_of
from beliefstream.streams.bridges.bags.topics import BagTopic
from beliefstream.streams.bridges.rows import Cells, Row

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


class BagMessage(NamedTuple):
    """A message of a bag: the name, type and encoding of its topic, when it was recorded (ns), and what decodes it."""

    topic: str
    kind: str | None
    encoding: str
    recorded: int
    decode: Callable[[], Any]


def rows_of(messages: Iterator[BagMessage], name: str, choice: Choice) -> Iterator[Row]:
    """The rows of the messages of a file; `name` is its name, or empty if there are no others."""
    counts = Counter[str]()
    while True:
        try:
            message = next(messages)
        except StopIteration:
            return
        except Exception as error:  # a damaged file may raise anything
            fault = f"message: the bag is damaged, the rest is not read ({_said(error)})"
            place = f"{name} after message {counts.total()}".lstrip()
            yield Row(place, Unusable(Reason.invalid, fault))
            return
        counts[message.topic] += 1
        uses = choice.uses(message.topic, message.kind, message.encoding)
        if not uses or message.kind is None:
            continue
        place = f"message {counts[message.topic]} of {message.topic}" + (f" in {name}" if name else "")
        content, unread = None, None
        try:
            content = message.decode()
        except Unusable as error:
            unread = error
        except Exception as error:  # the content may not fit its definition, nor that the language
            unread = Unusable(Reason.invalid, f"message: cannot be decoded: {_said(error)}")
        for use in uses:
            cells = unread or cells_of(use, content, message.recorded)
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


def _said(error: Exception) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__}: {error}"[:200]
