"""Reads JSON or YAML from a file, from standard input or from an argument."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beliefstream.streams.bridges.definition_files import Stated


def read_source(source: str) -> bytes:
    """Return the content of FILE, of `-` (standard input) or of JSON given directly."""
    if source == "-":
        return sys.stdin.buffer.read()
    if source.lstrip().startswith(("{", "[")):
        return source.encode()
    return Path(source).read_bytes()


def read_definitions(source: str) -> list[Stated]:
    """Return the definitions of a source in JSON or YAML: one, a list of them, or one per line or document.

    Raises ValueError if it is neither.
    """
    from beliefstream.streams.bridges import definition_files

    return definition_files.read_definitions(read_source(source), _name_of(source))


def _name_of(source: str) -> str:
    if source == "-":
        return "standard input"
    return source[:40] if source.lstrip().startswith(("{", "[")) else source
