"""Names of topics, as a setting states them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from beliefstream.streams.kafka.topics import TopicNames

TOPICS = ("observations", "sensors", "models", "priors", "posteriors", "dead_letters", "sensor_health")
"""Topics of an application that can be renamed; its changelog is named after the application."""


def renamed_topics(stated: str | Mapping[str, str]) -> Mapping[str, str]:
    """Parse `observations=seen,dead_letters=refused`.

    Raises ValueError if a topic is unknown, or if two have one name, since a worker would read what it sends.
    """
    found = _parsed(stated) if isinstance(stated, str) else dict(stated)
    for topic, name in found.items():
        if topic not in TOPICS or not name:
            raise ValueError(f"expected topic=name, the topic one of {', '.join(TOPICS)}, got {topic}={name}")
    names = TopicNames(**found)
    for one, other in combinations(TOPICS, 2):
        if getattr(names, one) == getattr(names, other):
            raise ValueError(f"{one} and {other} are both {getattr(names, one)!r}; each needs its own name")
    return found


def _parsed(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        topic, equals, name = (each.strip() for each in part.partition("="))
        if not equals or topic in found:
            raise ValueError(f"expected topic=name,topic=name, each topic once, got {text!r}")
        found[topic] = name
    return found
