"""What mappings of tables, bags and MQTT topics share: names in a topic's pattern, and units of times.

A pattern such as `fleet/{device}/{sensor}` has names, which templates of other fields use.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import Any

from pydantic_core import PydanticCustomError

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Units in a second, by the name of the unit."""


def check_templates(topic: str, templates: Iterable[tuple[str, str | None]]) -> None:
    """Raise PydanticCustomError, with the field's name, if a template is invalid or uses a name not in `topic`.

    A template of None, for a field that is not given, is allowed.
    """
    known = set(PLACEHOLDER.findall(topic))
    for name, template in templates:
        if template is None:
            continue
        try:
            used = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        except ValueError as error:
            raise PydanticCustomError("invalid_template", f"{name}: {error}") from error
        if missing := sorted(used - known):
            raise PydanticCustomError(
                "invalid_template", f"{name}: {{{missing[0]}}} is not in the topic {topic!r}"
            )


def named_levels(topic: str, expression: str) -> dict[str, str] | None:
    """The named levels of a topic; None if it does not match an escaped pattern."""
    found = re.fullmatch(re.sub(r"\\\{([a-z_]+)\\\}", r"(?P<\1>[^/]+)", expression), topic)
    return None if found is None else found.groupdict()


def seconds(time: Any, unit: str) -> Any:
    """Convert a time to seconds. Anything but a number is returned unchanged, for validation to refuse."""
    if unit == "s" or not isinstance(time, int | float) or isinstance(time, bool):
        return time
    try:
        return time / TIME_UNITS[unit]
    except OverflowError:  # a whole number that is no time in any unit
        return time
