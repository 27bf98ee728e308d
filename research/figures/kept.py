"""Reads `kept.json`: the figures of the last release by part, each part with its command, commit, machine and date.

Pages show them, and `python -m research.bench` prints its own beside them.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("kept.json")


def read() -> dict[str, Any]:
    """The figures by part."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def figure(*names: str) -> float | None:
    """One figure, by its part and the names within; None if it was not measured."""
    found: Any = reduce(lambda content, name: content.get(name, {}), names, read())
    return None if found == {} else float(found)


def origin(part: str) -> str:
    """Where the figures of a part are from."""
    found = read()[part]
    return f"commit {found['commit']}, {found['machine']}, {found['date']}"


def write(content: dict[str, Any]) -> None:
    """Replace the figures."""
    FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
