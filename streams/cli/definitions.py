"""`beliefstream sensors` and `beliefstream models`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.common import (
    Brokers,
    CommandError,
    Format,
    Formatted,
    console,
    read_definitions,
    resolve,
    settings_for,
)

if TYPE_CHECKING:
    from beliefstream.schemas import Message
    from beliefstream.streams.client import Registry

sensors = typer.Typer(name="sensors", help="Define sensors, list or remove them.")
models = typer.Typer(name="models", help="Define models of entities, list or remove them.")

Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|-|JSON", help="JSON or YAML: one definition, a list of them, or one a line or document"
    ),
]


@sensors.command("set")
def set_sensors(source: Source, brokers: Brokers = None) -> None:
    """Define sensors, or replace their definitions: all of them, or none if one is not valid.

    docs/definitions.md and the JSON Schemas of `beliefstream contract` say what kinds and noise there are.

    Example: beliefstream sensors set '{"sensor": "beacon-1", "kind": "range", "position": [0, 5],
    "standard_deviation": 0.3}'

    Example: beliefstream sensors set sensors.yaml
    """
    from beliefstream.schemas import parse_sensor
    from beliefstream.streams.bridges.definition_files import parse_definitions

    definitions = parse_definitions(read_definitions(source), parse_sensor)
    with _registry(brokers) as registry:
        for definition in definitions:
            registry.set_sensor(definition)
            print(f"set sensor {definition.sensor}")


@sensors.command("list")
def list_sensors(brokers: Brokers = None, format: Formatted = None) -> None:
    """List the sensors that are defined; JSON lines can be given to `sensors set -` again.

    Example: beliefstream sensors list --format table
    """
    with _registry(brokers) as registry:
        found = registry.sensors()
    _show(format, found, ("sensor", "kind", "coordinates", "outliers", "details"), _sensor_row)


@sensors.command("remove")
def remove_sensors(
    names: Annotated[list[str], typer.Argument(metavar="SENSOR...")], brokers: Brokers = None
) -> None:
    """Remove sensors; their observations are dead letters from then on.

    Example: beliefstream sensors remove beacon-1 beacon-2
    """
    with _registry(brokers) as registry:
        _known(names, registry.sensors(), "sensor")
        for name in names:
            registry.remove_sensor(name)
            print(f"removed sensor {name}")


@models.command("set")
def set_models(source: Source, brokers: Brokers = None) -> None:
    """Define the models of entities (`*`: of all that have none): all of them, or none if one is not valid.

    docs/definitions.md and the JSON Schemas of `beliefstream contract` say what motions there are.

    Example: beliefstream models set '{"entity": "*", "name": "walker",
    "coordinates": [{"name": "x", "unit": "m"}],
    "motion": {"kind": "random_walk", "spectral_density": 0.1},
    "prior": {"weights": [1], "means": [[0]], "covariances": [[[100]]]}}'
    """
    from beliefstream.schemas import Model, parse
    from beliefstream.streams.bridges.definition_files import parse_definitions

    definitions = parse_definitions(read_definitions(source), lambda raw: parse(Model, raw))
    with _registry(brokers) as registry:
        for definition in definitions:
            registry.set_model(definition)
            print(f"set model of {definition.entity}")


@models.command("list")
def list_models(brokers: Brokers = None, format: Formatted = None) -> None:
    """List the models that are defined; JSON lines can be given to `models set -` again.

    Example: beliefstream models list --format json
    """
    with _registry(brokers) as registry:
        found = registry.models()
    _show(format, found, ("entity", "model", "coordinates", "motion", "components"), _model_row)


@models.command("remove")
def remove_models(
    entities: Annotated[list[str], typer.Argument(metavar="ENTITY...")], brokers: Brokers = None
) -> None:
    """Remove the models of entities, which then have that of `*`.

    Example: beliefstream models remove mower
    """
    with _registry(brokers) as registry:
        _known(entities, registry.models(), "model of")
        for entity in entities:
            registry.remove_model(entity)
            print(f"removed model of {entity}")


def _registry(brokers: str | None) -> Registry:
    from beliefstream.streams.client import Registry

    settings = settings_for(brokers)
    return Registry(
        settings.brokers,
        settings.sensors,
        settings.models,
        source="/beliefstream/cli",
        **settings.client_options,
    )


def _known(names: list[str], found: Mapping[str, Any], what: str) -> None:
    unknown = [name for name in names if name not in found]
    if unknown:
        raise CommandError(f"there is no {what} {', '.join(unknown)}")


def _show(
    format: Format | None,
    found: Mapping[str, Message],
    columns: tuple[str, ...],
    row: Callable[[Any], tuple[str, ...]],
) -> None:
    definitions = [found[name] for name in sorted(found)]
    if resolve(format) is Format.json:
        for definition in definitions:
            print(definition.to_json().decode())
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for definition in definitions:
        table.add_row(*map(Text, row(definition)))  # as text: names are not markup
    console().print(table)


def _sensor_row(sensor: Any) -> tuple[str, ...]:
    listed = ("sensor", "kind", "coordinates", "outlier_probability")
    outliers = getattr(sensor, "outlier_probability", None)  # a composite has those of its parts
    return (
        sensor.sensor,
        sensor.kind,
        ", ".join(sensor.coordinate_names),
        "" if outliers is None else f"{outliers:g}",
        _details(sensor, listed),
    )


def _model_row(model: Any) -> tuple[str, ...]:
    coordinates = ", ".join(f"{each.name} ({each.unit})" for each in model.coordinates)
    motion = f"{model.motion.kind}: {_details(model.motion, ('kind',))}"
    return model.entity, f"{model.name} {model.version}", coordinates, motion, str(model.components)


def _details(message: Any, without: tuple[str, ...]) -> str:
    """The other fields that differ from their defaults."""
    rest = message.model_dump(mode="json", exclude_defaults=True, exclude=set(without))
    return ", ".join(f"{name} {value}" for name, value in rest.items())
