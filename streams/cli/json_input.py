"""Reads JSON from a file, from standard input or from an argument."""

from __future__ import annotations

import sys
from pathlib import Path


def read_source(source: str) -> bytes:
    """Return the content of FILE, of `-` (standard input) or of JSON given directly."""
    if source == "-":
        return sys.stdin.buffer.read()
    if source.lstrip().startswith(("{", "[")):
        return source.encode()
    return Path(source).read_bytes()


def read_definitions(source: str) -> list[bytes]:
    """Return the JSON objects of a source: one object, a list of them, or one per line.

    Raises ValueError if it is not JSON.
    """
    import json

    raw = read_source(source)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:  # also not UTF-8, or too deep
        lines = [line for line in raw.splitlines() if line.strip()]
        if len(lines) < 2:
            raise ValueError(f"{_name_of(source)}: not JSON: {error}") from None
        return lines
    return [json.dumps(entry).encode() for entry in content] if isinstance(content, list) else [raw]


def _name_of(source: str) -> str:
    return "standard input" if source == "-" else source[:40]
