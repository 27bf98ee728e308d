"""Gives mkdocstrings the descriptions of fields that stand in an annotation, and not in a docstring below the field."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import griffe


class FieldDescriptions(griffe.Extension):
    """Reads the descriptions from pydantic."""

    def on_attribute(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Document a field that has a description and no docstring."""
        owner = attr.parent
        if attr.docstring is not None or not (isinstance(owner, griffe.Class) and "schemas" in owner.path):
            return
        message = getattr(import_module(owner.module.path), owner.name, None)
        field = getattr(message, "model_fields", {}).get(attr.name)
        if field is not None and field.description:
            attr.docstring = griffe.Docstring(field.description, parent=attr)
