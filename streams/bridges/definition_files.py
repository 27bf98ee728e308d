"""Sensors and models in JSON and YAML files.

YAML is read as JSON knows it. Scalars are those of YAML 1.2: `no` and `2026-01-31` are text, `1e-3` is a number, `010`
is ten.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from beliefstream.schemas import Model, Sensor, Unusable

_MOST = 100_000  # values in one definition: aliases of aliases grow without end
_NOT_FINITE = r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", rf"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|{_NOT_FINITE}", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
)
D = TypeVar("D", bound=Sensor | Model)
YAML_SUFFIXES = (".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """Without YAML 1.1's other spellings of truth and numbers, and without its dates."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


@dataclass(frozen=True)
class Document:
    """A value, and the lines on which it and what is inside it stand, by path: `position[1]`, `noise.slope`."""

    value: Any
    lines: dict[str, int]


def documents(raw: bytes, name: str) -> list[Document]:
    """Read YAML: the entries of each document that is a list, and each other document.

    Raises:
        ValueError: a line that names the file, the line and the problem.
    """
    try:
        loader = _Loader(raw)
    except yaml.YAMLError as error:  # bytes that are no text
        raise ValueError(f"{name}: not YAML: {_problem(error)}") from None
    found: list[Document] = []
    try:
        while loader.check_node():
            root = loader.get_node()
            if root is None:
                continue
            nodes = root.value if isinstance(root, yaml.SequenceNode) else [root]
            found += [_document(loader, node, name) for node in nodes]
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: {_line(error)}not YAML: {_problem(error)}") from None
    except RecursionError:
        raise ValueError(f"{name}: not YAML: nested too deeply") from None
    finally:
        loader.dispose()
    return found


def _document(loader: _Loader, node: yaml.Node, name: str) -> Document:
    lines: dict[str, int] = {}
    _note(node, "", lines, name, ())
    return Document(loader.construct_document(node), lines)


def _note(node: yaml.Node, path: str, lines: dict[str, int], name: str, above: tuple[yaml.Node, ...]) -> None:
    """Note the line of a node and of all inside it; a key that stands twice is refused."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > _MOST:
        raise ValueError(
            f"{name}: line {node.start_mark.line + 1}: more than {_MOST} values, aliases included"
        )
    if any(node is each for each in above):
        raise ValueError(f"{name}: line {node.start_mark.line + 1}: an alias of what it is inside of")
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            _note(entry, f"{path}[{index}]", lines, name, above)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"{name}: line {key.start_mark.line + 1}: expected a name before the colon")
            if key.value in keys:
                raise ValueError(f"{name}: line {key.start_mark.line + 1}: {key.value} stands here twice")
            keys.add(key.value)
            inside = f"{path}.{key.value}" if path else str(key.value)
            lines[inside] = key.start_mark.line + 1
            _note(value, inside, lines, name, above)


def _line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f"line {mark.line + 1}: "


def _problem(error: yaml.YAMLError) -> str:
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    return ", ".join(str(part) for part in parts if part) or " ".join(str(error).split())


@dataclass(frozen=True)
class Stated:
    """One definition as JSON, and where it stands."""

    raw: bytes
    place: str = ""  # for errors
    lines: dict[str, int] = field(default_factory=dict)  # in YAML, those of its fields by their paths
    name: str = ""  # of the YAML file

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
        found = documents(raw, name)
        return [Stated(json.dumps(each.value).encode(), "", each.lines, name) for each in found]
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


def _looks_like_json(raw: bytes) -> bool:
    return raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[", b"")
