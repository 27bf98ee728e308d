"""Pages of `docs/` that the code says best: settings, metrics, and the fields of messages and definitions.

And the alerts as Kubernetes takes them, which are those of `deploy/prometheus/rules.yml`. The stub of the package and
the reference of Python are written by hand, but for the names of kinds, which follow from their registry.

`python docs/generate.py` writes them; tests/test_docs.py compares them with the code.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

import beliefstream.schemas
import beliefstream.streams.monitoring.metrics  # registers its metrics
from beliefstream.schemas import (
    ChannelHealth,
    Coordinate,
    HealthBlock,
    LogPosition,
    Mixture,
    Model,
    Observation,
    Posterior,
    Prior,
    Quality,
    Replay,
    Reset,
    SensorError,
    SensorHealth,
)
from beliefstream.schemas.dead_letter import HEADERS, OPTIONAL_HEADERS, DeadLetter
from beliefstream.schemas.kinds import AnyMotion
from beliefstream.schemas.sensors.base import (
    Channel,
    ExponentialClutter,
    Noise,
    NoiseComponent,
    UniformClutter,
)
from beliefstream.schemas.sensors.coordinates import Geodetic
from beliefstream.schemas.sensors.distances import RangeChannel
from beliefstream.schemas.sensors.parsing import KINDS
from beliefstream.streams.bridges.gateway.metrics import REGISTRY as BRIDGES
from beliefstream.streams.monitoring.metrics import REGISTRY
from beliefstream.streams.settings import Settings, as_text

Schema = dict[str, Any]

NOTE = "<!-- Written by docs/generate.py (make contract); change the code instead. -->"
DOCS = Path(__file__).parent
DEPLOY = DOCS.parent / "deploy"
STUB = "../src/beliefstream/__init__.pyi"
ALERTS = """\
# Written by docs/generate.py (make contract); change deploy/prometheus/rules.yml instead.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: beliefstream
  labels: {app.kubernetes.io/name: beliefstream}
spec:
  groups:
"""
MOTIONS = get_args(AnyMotion)
PARTS = (Channel, RangeChannel, Noise, NoiseComponent, UniformClutter, ExponentialClutter, Geodetic)
MODEL_PARTS = (Coordinate, Mixture)
FAR = 1e9  # bounds as large are those of the calendar
_PROCESS = "process_"


def _kind(message: type[BaseModel]) -> tuple[str, ...]:
    """The constant in its field `kind`, if it has one."""
    field = message.model_fields.get("kind")
    return () if field is None else (str(field.default),)


ANCHORS = {
    part.__name__: "-".join((part.__name__.lower(), *_kind(part)))
    for part in (*PARTS, *MODEL_PARTS, *MOTIONS, LogPosition, Quality, ChannelHealth, HealthBlock)
}
"""Of the headings of what other messages hold."""


def reference() -> str:
    """Every field of sensors and models."""
    schemas = _schemas((*KINDS, *MOTIONS, Model, *PARTS, *MODEL_PARTS))
    lines = [NOTE, "# Reference of sensors and models", ""]
    lines += [
        "Every field of the messages on the topics `sensors` and `models`, generated from the code. "
        "[Sensors and motions](definitions.md) explains them with examples. The JSON Schemas "
        "that `beliefstream contract` writes have the same fields.",
    ]
    for title, messages in (
        ("Sensors", KINDS),
        ("Parts of a sensor", PARTS),
        ("Models", (Model, *MODEL_PARTS)),
        ("Motions", MOTIONS),
    ):
        lines += ["", f"## {title}"]
        for message in messages:
            lines += _message(message, schemas)
    return _page(lines)


def messages() -> str:
    """Every field of the other messages."""
    shown = (
        Observation,
        Prior,
        Reset,
        LogPosition,
        Mixture,
        Posterior,
        Quality,
        SensorError,
        Coordinate,
        Replay,
        SensorHealth,
        ChannelHealth,
        HealthBlock,
    )
    schemas = _schemas(shown)
    lines = [NOTE, "# Reference of messages", ""]
    lines += [
        "Values are JSON objects, keys are UTF-8. Units are SI. CloudEvents headers are sent, but not required. "
        "[Sensors and models](reference.md) have a page of their own.",
    ]
    for message in shown:
        lines += _message(message, schemas, level=2)
    lines += [
        "",
        "## Dead letter",
        "",
        "The original key and value, byte for byte. These are headers, as text.",
        "",
    ]
    properties = DeadLetter.model_json_schema()["properties"]
    rows = [
        (
            f"`{header}`",
            "no" if header in OPTIONAL_HEADERS else "yes",
            properties[field].get("description", ""),
        )
        for field, header in HEADERS.items()
    ]
    lines += _table(("header", "always there", "what it says"), rows)
    return _page(lines)


def settings() -> str:
    """Every environment variable of workers and commands."""
    prefix = str(Settings.model_config["env_prefix"])
    lines = [NOTE, "# Settings", ""]
    lines += [
        "Environment variables set up workers and commands; a file `.env` in the working directory is read too. "
        "`beliefstream settings` lists them with their current values. A password or token can be the content of a "
        "file, which the same name with `_FILE` states: `BELIEFSTREAM_SASL_PASSWORD_FILE=/run/secrets/kafka`.",
        "",
    ]
    rows = [
        (f"`{prefix}{name.upper()}`", _setting_default(field), _sentence(field.description))
        for name, field in Settings.model_fields.items()
    ]
    return _page([*lines, *_table(("variable", "default", "meaning"), rows)])


def metrics() -> str:
    """Every metric of a worker and of the bridges, but for those of the process."""
    lines = [NOTE, "# Metrics", ""]
    lines += [
        "A worker shows these at `/metrics`, in Prometheus' format, beside the usual `process_...`. "
        "No metric has an entity as a label.",
        "",
    ]
    lines += _metrics(REGISTRY)
    lines += [
        "",
        "A bridge shows these at its own `/metrics`; those of `beliefstream_gateway` are of the "
        "[HTTP gateway](gateway.md) alone.",
        "",
    ]
    lines += _metrics(BRIDGES)
    return _page(lines)


def _metrics(registry: CollectorRegistry) -> list[str]:
    rows = []
    for family in sorted(registry.collect(), key=lambda family: family.name):
        if family.name.startswith(_PROCESS):
            continue
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        rows.append((f"`{family.name}{suffix}`", family.type, _sentence(family.documentation)))
    return _table(("metric", "type", "meaning"), rows)


def python() -> str:
    """The reference of Python, in which the kinds follow each union."""
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    for union, kinds in (("Motion", MOTIONS), ("Sensor", KINDS)):
        listed = "".join(f"::: beliefstream.{kind.__name__}\n\n" for kind in kinds)
        text = re.sub(rf"(::: beliefstream\.{union}\n\n)[^#]*", rf"\g<1>{listed}", text)
    return text


def stub() -> str:
    """The stub of the package, which has every kind and the other messages that are listed already."""
    before, start, rest = (DOCS / STUB).read_text(encoding="utf-8").partition("from .schemas import (\n")
    listed, end, after = rest.partition(")\n")
    names = vars(beliefstream.schemas).keys() & re.findall(r"(\w+) as", listed)
    names |= {kind.__name__ for kind in (*KINDS, *MOTIONS)}
    lines = (f"    {name} as {name},\n" for name in sorted(names))
    return "".join((before, start, *lines, end, after))


def alerts() -> str:
    """The rules of Prometheus as a resource of its operator, comments included."""
    groups = (DEPLOY / "prometheus/rules.yml").read_text(encoding="utf-8").partition("\ngroups:\n")[2]
    return ALERTS + textwrap.indent(groups, "  ")


def documents() -> dict[str, str]:
    """The text of each generated page by its name."""
    pages = {
        "reference.md": reference,
        "messages.md": messages,
        "settings.md": settings,
        "metrics.md": metrics,
        "python.md": python,
        STUB: stub,
        "../deploy/kubernetes/components/monitoring/alerts.yaml": alerts,
    }
    return {name: page() for name, page in pages.items()}


def _page(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _schemas(messages: Iterable[type[BaseModel]]) -> Schema:
    _, schema = models_json_schema([(message, "validation") for message in messages], ref_template="{model}")
    definitions: Schema = schema["$defs"]
    return definitions


def _message(message: type[BaseModel], schemas: Schema, level: int = 3) -> list[str]:
    """A heading, the first paragraph of the docstring, and a row for each field."""
    schema = schemas[message.__name__]
    title = ": ".join((message.__name__, *(f"`{kind}`" for kind in _kind(message))))
    text = " ".join(schema.get("description", "").split("\n\n    ")[0].split())
    required = schema.get("required", ())
    rows = []
    for name, field in schema["properties"].items():
        if name == "kind":
            continue
        default = "required" if name in required else _default(field.get("default"))
        rows.append((f"`{name}`", _type(field), default, _sentence(_description(field, schemas))))
    table = _table(("field", "type", "default", "meaning"), rows)
    return ["", f"{'#' * level} {title}", "", _escaped(text), "", *table]


def _description(field: Schema, schemas: Schema) -> str:
    return str(field.get("description") or schemas.get(field.get("$ref", ""), {}).get("description", ""))


def _type(field: Schema) -> str:
    """A JSON Schema as a word or two, with bounds."""
    for several in ("anyOf", "oneOf"):
        if several in field:
            kinds = [_type(part) for part in field[several] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "$ref" in field:
        name = str(field["$ref"])
        return f"[{name}](#{ANCHORS[name]})" if name in ANCHORS else name
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return _default(field["const"])
    names = {"string": "text", "number": "number", "integer": "integer", "boolean": "true or false"}
    if field.get("type") == "array":
        inner = field.get("items", {})
        return f"list of {_type(inner)}" if inner else "list"
    if field.get("type") == "object":
        return "object"
    return names.get(field.get("type", ""), "any") + _bounds(field)


def _bounds(field: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {field[name]:g}" for name, sign in signs.items() if abs(field.get(name, FAR)) < FAR]
    return f", {', '.join(found)}" if found else ""


def _default(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"`{part}`" for part in value)
    return f"`{value:.12g}`" if isinstance(value, float) else f"`{value}`"


def _setting_default(field: FieldInfo) -> str:
    text = as_text(field.default)
    return f"`{text}`" if text else "none"


def _sentence(text: str | None) -> str:
    return _escaped(" ".join((text or "").split()))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    for name, text in documents().items():
        path = DOCS / name
        path.write_text(text, encoding="utf-8")
        print(path)
