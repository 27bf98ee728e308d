"""Which topics of a bag make which observations."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from beliefstream.schemas.base import Message, explain
from beliefstream.streams.bridges.topic_templates import check_templates, named_levels


class BagTopic(Message):
    """How the messages of the topics of one pattern become observations."""

    topic: Annotated[str, Field(min_length=1, max_length=500)]
    """topic, or pattern such as /{entity}/fix: {name} is a level that entity and sensor refer to"""
    entity: str | None = None
    """the entity, with {name} of the topic in it; absent: {entity}, if it is there"""
    sensor: str | None = None
    """the sensor, likewise; absent: {sensor}, or the topic without its first slash"""
    quantity: str | None = None
    """what of the message is the value; absent: the first of its type"""
    time: Literal["header", "log"] = "header"
    """the time in the header, or that of recording"""
    covariance: Literal["message", "sensor"] = "message"
    """whether covariances of messages replace that of the sensor's definition"""
    dimensions: Literal[2, 3] = 2
    """numbers of a position or a velocity: with or without height"""

    @model_validator(mode="after")
    def _check_templates(self) -> Self:
        check_templates(self.topic, (("entity", self.entity), ("sensor", self.sensor)))
        return self

    def names(self, topic: str) -> tuple[str | None, str] | None:
        """The entity, if the pattern or `entity` says it, and the sensor; None if the pattern does not match."""
        levels = named_levels(topic, re.escape(self.topic))
        if levels is None:
            return None
        entity = levels.get("entity") if self.entity is None else self.entity.format_map(levels)
        sensor = (
            levels.get("sensor", topic.removeprefix("/"))
            if self.sensor is None
            else self.sensor.format_map(levels)
        )
        return entity, sensor


def bag_topics(stated: Any) -> tuple[BagTopic, ...]:
    """The topics that a mapping file states; raises ValueError that names the field and the value."""
    if not isinstance(stated, list):
        raise ValueError(f"mapping: topics: expected a list, got {stated!r}")
    found = []
    for number, each in enumerate(stated):
        try:
            found.append(BagTopic.model_validate(each))
        except ValidationError as error:
            raise ValueError(f"mapping: topics[{number}]: {explain(error)}") from None
    return tuple(found)
