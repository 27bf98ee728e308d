"""`beliefstream sensors`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from beliefstream.streams.cli.definition_commands import (
    Source,
    check_defined,
    details,
    open_registry,
    print_definitions,
)
from beliefstream.streams.cli.json_input import read_definitions
from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import Formatted

sensors = typer.Typer(name="sensors", help="Define sensors, list or remove them.")


@sensors.command("set")
def set_sensors(source: Source, brokers: Brokers = None) -> None:
    """Define sensors, or replace their definitions; if one definition is invalid, none is set.

    docs/definitions.md and the JSON Schemas of `beliefstream contract` list the kinds of sensors and noise.

    Example: beliefstream sensors set '{"sensor": "beacon-1", "kind": "range", "position": [0, 5],
    "standard_deviation": 0.3}'

    Example: beliefstream sensors set sensors.yaml
    """
    from beliefstream.schemas import parse_sensor
    from beliefstream.streams.bridges.definition_files import parse_definitions

    definitions = parse_definitions(read_definitions(source), parse_sensor)
    with open_registry(brokers) as registry:
        for definition in definitions:
            registry.set_sensor(definition)
            print(f"set sensor {definition.sensor}")


@sensors.command("list")
def list_sensors(brokers: Brokers = None, format: Formatted = None) -> None:
    """List the defined sensors; `sensors set -` reads the JSON lines again.

    Example: beliefstream sensors list --format table
    """
    with open_registry(brokers) as registry:
        found = registry.sensors()
    print_definitions(format, found, ("sensor", "kind", "coordinates", "outliers", "details"), _sensor_row)


@sensors.command("remove")
def remove_sensors(
    names: Annotated[list[str], typer.Argument(metavar="SENSOR...")], brokers: Brokers = None
) -> None:
    """Remove sensors; their further observations become dead letters.

    Example: beliefstream sensors remove beacon-1 beacon-2
    """
    with open_registry(brokers) as registry:
        check_defined(names, registry.sensors(), "sensor")
        for name in names:
            registry.remove_sensor(name)
            print(f"removed sensor {name}")


def _sensor_row(sensor: Any) -> tuple[str, ...]:
    listed = ("sensor", "kind", "coordinates", "outlier_probability")
    outliers = getattr(sensor, "outlier_probability", None)  # a composite has those of its parts
    return (
        sensor.sensor,
        sensor.kind,
        ", ".join(sensor.coordinate_names),
        "" if outliers is None else f"{outliers:g}",
        details(sensor, listed),
    )
