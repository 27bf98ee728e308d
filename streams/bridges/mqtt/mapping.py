"""Which MQTT topics and which parts of a payload make an observation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, from_json

from beliefstream.schemas import Observation, Reason, Unusable
from beliefstream.schemas.base import Message, check_size, explain, validated
from beliefstream.streams.bridges.topic_templates import PLACEHOLDER, check_templates, named_levels, seconds

_Path = Annotated[str, Field(min_length=1, max_length=200)]
"""A place in a payload: names and list indices joined by dots, or `.` for the whole payload."""


class TopicMapping(Message):
    """How messages on the topics of one pattern become observations."""

    topic: Annotated[str, Field(min_length=1, max_length=500)]
    """pattern such as sites/+/{entity}/{sensor}: + is any level, # at the end any number of levels, {name} a level that
    entity and sensor refer to"""
    entity: str = "{entity}"
    """the entity, with {name} of the topic in it"""
    sensor: str = "{sensor}"
    """the sensor, likewise"""
    value: _Path | tuple[_Path, ...] = "value"
    """where the value is in the payload, or each number of it"""
    time: _Path | None = "time"
    """where the time is; null: when the bridge receives the message"""
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    """of a time that is a number"""
    standard_deviation: _Path | None = None
    """where it is, if anywhere"""
    covariance: _Path | None = None
    """where it is, if anywhere"""
    position: _Path | tuple[_Path, ...] | None = None
    """where the sensor's position is, or each number of it, if anywhere"""
    velocity: _Path | tuple[_Path, ...] | None = None
    """where the satellite's velocity is, or each number of it, if anywhere"""
    orientation: _Path | tuple[_Path, ...] | None = None
    """where the sensor's orientation is, or each number of it, if anywhere"""
    id: _Path | None = None
    """where an identifier is, if anywhere"""

    @model_validator(mode="after")
    def _check_pattern(self) -> Self:
        levels = self.topic.split("/")
        for number, level in enumerate(levels):
            last = number == len(levels) - 1
            plain = not set(level) & set("+#{}")
            if not (plain or level == "+" or (level == "#" and last) or PLACEHOLDER.fullmatch(level)):
                raise PydanticCustomError(
                    "invalid_topic", "topic: {level} is no level of a pattern", {"level": level}
                )
        check_templates(self.topic, (("entity", self.entity), ("sensor", self.sensor)))
        return self

    @property
    def subscription(self) -> str:
        """The topic filter to subscribe to."""
        return PLACEHOLDER.sub("+", self.topic)

    def match(self, topic: str) -> dict[str, str] | None:
        """The named levels of a topic; None if the pattern does not match it."""
        return named_levels(topic, re.escape(self.topic).replace(r"\+", "[^/]*").replace(r"\#", ".*"))


class Mapping(Message):
    """The mapping file: the first pattern that matches a topic counts."""

    topics: Annotated[tuple[TopicMapping, ...], Field(min_length=1, max_length=1000)]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a mapping file (JSON); raises ValueError that names the field and the value, or OSError."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{path}: {explain(error)}") from None

    def observation(self, topic: str, payload: bytes, now: float, most_bytes: int) -> Observation:
        """Convert one MQTT message.

        Raises:
            Unusable: with a line that names the field and the value.
        """
        for mapping in self.topics:
            if (names := mapping.match(topic)) is not None:
                break
        else:
            raise Unusable(Reason.invalid, f"topic: no pattern matches {topic!r}")
        check_size(payload, most_bytes)
        try:
            content = from_json(payload)
        except ValueError as error:
            raise Unusable(Reason.not_json, f"payload: {error}") from error
        fields = {
            "entity": mapping.entity.format_map(names),
            "sensor": mapping.sensor.format_map(names),
            "time": now if mapping.time is None else seconds(_at(content, mapping.time), mapping.time_unit),
            "value": _number(content, mapping.value),
        }
        for name in ("standard_deviation", "covariance", "position", "velocity", "orientation", "id"):
            if (path := getattr(mapping, name)) is not None:
                fields[name] = _number(content, path)
        return validated(Observation, fields)


def _number(content: Any, path: str | tuple[str, ...]) -> Any:
    """The part of a payload at a path, or a list of those at several."""
    return _at(content, path) if isinstance(path, str) else [_at(content, each) for each in path]


def _at(content: Any, path: str) -> Any:
    """The part of a payload at a path; raises Unusable that names the path."""
    part = content
    for name in path.split(".") if path != "." else ():
        try:
            part = part[int(name)] if isinstance(part, list) else part[name]
        except (LookupError, TypeError, ValueError):
            shown = repr(content)[:80]
            raise Unusable(Reason.invalid, f"{path}: the payload has no {name!r} ({shown})") from None
    return part
