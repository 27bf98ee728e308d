"""Sensors and models in JSON and YAML files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from beliefstream.schemas import Model, Sensor, Unusable

D = TypeVar("D", bound=Sensor | Model)
YAML_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Stated:
    """One definition as JSON, and where it stands.

    Attributes:
        raw: its JSON.
        place: where it stands, for errors.
        lines: in YAML, the lines of its fields by their paths.
        name: of the YAML file.
    """

    raw: bytes
    place: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    name: str = ""

    def place_of(self, detail: str) -> str:
        """Where the field stands with which the detail of an error begins; otherwise the definition."""
        if not self.lines:
            return self.place
        path = detail.partition(": ")[0].split(".")
        # pydantic names the kind before or inside the path: `range.position`, `motion.random_walk.spectral_density`
        tried = (".".join(path[:cut] + path[cut + 1 :]) for cut in range(len(path), -1, -1))
        line = next((self.lines[each] for each in tried if each in self.lines), self.lines[""])
        return f"{self.name}: line {line}: "


def read_definitions(raw: bytes, name: str) -> list[Stated]:
    """Read definitions: of JSON one, a list of them or one a line; of YAML one, a list or several documents.

    A name that ends in .yaml or .yml is YAML, and what has none is if it does not begin like JSON.

    Raises:
        ValueError: it is not JSON, or not YAML.
    """
    suffix = Path(name).suffix.lower()
    if suffix in YAML_SUFFIXES or not (suffix or _looks_like_json(raw)):
        return _of_yaml(raw, name)
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:  # also not UTF-8, or too deep
        lines = [line for line in raw.splitlines() if line.strip()]
        if len(lines) < 2:
            raise ValueError(f"{name}: not JSON: {error}") from None
        return _numbered(lines)
    return _numbered(
        [json.dumps(entry).encode() for entry in content] if isinstance(content, list) else [raw]
    )


def parse_definitions(stated: Iterable[Stated], read: Callable[[bytes], D]) -> list[D]:
    """Parse all definitions, each once.

    Raises:
        ValueError: one is not valid, or has the name of another; the line says where it stands.
    """
    parsed: list[D] = []
    seen: set[str] = set()
    for each in stated:
        try:
            definition = read(each.raw)
        except Unusable as error:
            raise ValueError(f"{each.place_of(error.detail)}{error.detail}") from None
        parsed.append(definition)
        field, name = _name_of(definition)
        if name in seen:
            raise ValueError(
                f"{each.place_of(field)}{field}: {name!r} is defined twice; only one would count"
            )
        seen.add(name)
    return parsed


def _name_of(definition: Sensor | Model) -> tuple[str, str]:
    """The field that names a definition, and the name: a sensor's, or that of a model's entity."""
    return ("entity", definition.entity) if isinstance(definition, Model) else ("sensor", definition.sensor)


def _numbered(raws: list[bytes]) -> list[Stated]:
    count = len(raws)
    return [
        Stated(raw, f"definition {number} of {count}: " if count > 1 else "")
        for number, raw in enumerate(raws, 1)
    ]


def _of_yaml(raw: bytes, name: str) -> list[Stated]:
    from beliefstream.streams.bridges.yaml_documents import documents

    return [Stated(json.dumps(each.value).encode(), "", each.lines, name) for each in documents(raw, name)]


def _looks_like_json(raw: bytes) -> bool:
    return raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b"")
