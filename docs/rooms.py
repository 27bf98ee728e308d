"""Draws the rooms of the package and who imports whom: the picture in `design.md`, read from the code.

`python docs/rooms.py` writes it; tests/test_docs.py compares it with the code. An arrow that longer paths already imply
is left out, so that the picture stays readable. Rooms that import each other are an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

PACKAGE = "beliefstream"
FOLDERS = ("streams", "inference", "schemas")
PAGE = Path(__file__).parent / "design.md"
START, END = "<!-- Written by docs/rooms.py -->\n```mermaid\n", "\n```\n"

Rooms = Mapping[str, set[str]]


def rooms() -> Rooms:
    """The rooms that each room imports, by name, such as ``inference.update``.

    Raises:
        graphlib.CycleError: two rooms import each other.
    """
    graph = grimp.build_graph(PACKAGE)
    imports: dict[str, set[str]] = {}
    for module in graph.modules:
        room = _room(module)
        if room is not None:
            others = map(_room, graph.find_modules_directly_imported_by(module))
            imports.setdefault(room, set()).update(other for other in others if other not in (None, room))
    list(TopologicalSorter(imports).static_order())
    return imports


def _room(module: str) -> str | None:
    """The room of a module; None of a file outside the rooms, such as `beliefstream` itself."""
    parts = module.split(".")[1:]
    if len(parts) < 2 or parts[0] not in FOLDERS:
        return None
    return "schemas" if parts[0] == "schemas" else ".".join(parts[:2])


def reduced(imports: Rooms) -> Rooms:
    """The same order with the fewest arrows: those that no longer path implies."""
    reached: dict[str, set[str]] = {}
    for room in TopologicalSorter(imports).static_order():
        reached[room] = set().union(*({other} | reached[other] for other in imports.get(room, ())))
    return {
        room: {other for other in others if not any(other in reached[third] for third in others)}
        for room, others in imports.items()
    }


def picture() -> str:
    """The picture as a Mermaid flowchart."""
    imports = rooms()
    lines = ["flowchart TD"]
    for folder in ("streams", "inference"):
        inside = sorted(room for room in imports if room.startswith(f"{folder}."))
        lines += [
            f"    subgraph {folder}",
            *(f"        {room}[{room.partition('.')[2]}]" for room in inside),
            "    end",
        ]
    lines += [
        f"    {room} --> {other}"
        for room, others in sorted(reduced(imports).items())
        for other in sorted(others)
    ]
    return "\n".join(lines)


def page() -> str:
    """The text of `design.md` with the picture of the present code."""
    before, start, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    return f"{before}{start}{picture()}{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
