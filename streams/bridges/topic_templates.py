"""Names in a topic's pattern, as in `fleet/{device}/{sensor}`, and the templates that use them."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

from pydantic_core import PydanticCustomError

__all__ = ["PLACEHOLDER", "check_templates"]

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


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
