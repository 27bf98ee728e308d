"""`beliefstream sensors`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.definitions.fit_commands import fit_files, fit_sensors
from beliefstream.streams.cli.definitions.registry import (
    Source,
    check_defined,
    details,
    open_registry,
    print_definitions,
    require_accepted,
)
from beliefstream.streams.cli.options import Brokers, read_definitions
from beliefstream.streams.cli.output import AsJson, print_table
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.inference.tracking.health.verdicts import Assessment, ChannelHealth
    from beliefstream.streams.client.sensor_health import SensorState

COLUMNS = ("sensor", "verdict", "number", "observations", "bias", "noise", "outliers", "gain", "evidence")

sensors = typer.Typer(name="sensors", help="Define sensors, list, fit, correct or remove them.")


@sensors.command("set")
def set_sensors(source: Source, brokers: Brokers = None) -> None:
    """Define sensors, or replace their definitions; if one is invalid, or workers would refuse it, none is set.

    docs/definitions.md and the JSON Schemas of `beliefstream contract` list the kinds of sensors and noise.

    Example: beliefstream sensors set '{"sensor": "beacon-1", "kind": "range", "position": [0, 5],
    "standard_deviation": 0.3}'

    Example: beliefstream sensors set sensors.yaml
    """
    from beliefstream.schemas import parse_sensor
    from beliefstream.streams.bridges.definition_files import parse_definitions

    definitions = parse_definitions(read_definitions(source), parse_sensor)
    with open_registry(brokers) as registry:
        require_accepted(registry.sensors().values(), definitions)
        for definition in definitions:
            registry.set_sensor(definition)
            print(f"set sensor {definition.sensor}")


@sensors.command("list")
def list_sensors(
    as_json: AsJson,
    health: Annotated[
        bool,
        typer.Option("--health", help="the health of the sensors, by the observations of the last window"),
    ] = False,
    brokers: Brokers = None,
) -> None:
    """List the defined sensors, or their health; `sensors set -` reads the JSON lines of definitions again.

    docs/sensor-health.md explains the verdicts.

    Example: beliefstream sensors list --table

    Example: beliefstream sensors list --health
    """
    if health:
        found = {name: state.assessment for name, state in read_health(brokers).items()}
        print_health(found, as_json)
        return
    with open_registry(brokers) as registry:
        defined = registry.sensors()
    print_definitions(defined, as_json, ("sensor", "kind", "coordinates", "outliers", "details"), _sensor_row)


sensors.command("fit")(fit_sensors)
sensors.command("fit-files")(fit_files)


@sensors.command("correct")
def correct_sensor(
    sensor: Annotated[str, typer.Argument(metavar="SENSOR")],
    scale: Annotated[
        bool, typer.Option("--scale", help="correct the scale of distances too, where predictions tell it")
    ] = False,
    brokers: Brokers = None,
) -> None:
    """Propose a corrected definition of a running sensor by its health, and print it as JSON.

    Bias and noise are those that the other sensors contradict. A belief follows a biased sensor in part, so set the
    definition, let observations arrive, and correct again. Why each number is proposed stands on standard error.

    Example: beliefstream sensors correct beacon-1 | beliefstream sensors set -
    """
    from beliefstream.schemas.sensor_health import digest_of
    from beliefstream.streams.client.sensor_health import propose

    with open_registry(brokers) as registry:
        defined = registry.sensors()
    check_defined([sensor], defined, "sensor")
    states = read_health(brokers)
    if sensor not in states:
        raise CommandError(f"there is no health of sensor {sensor}: no worker has seen an observation of it")
    if states[sensor].definition != digest_of(defined[sensor]):
        raise CommandError(f"sensor {sensor} has not reported since it was defined; correct it when it has")
    proposal = propose(defined[sensor], states[sensor].assessment, scale=scale)
    if any(channel.verdict == "lasting" for channel in states[sensor].assessment.channels):
        print("its errors last: `beliefstream sensors fit` fits them", file=sys.stderr)
    for line in proposal.reasons:
        print(line, file=sys.stderr)
    print(proposal.definition.to_json().decode())


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


def read_health(brokers: str | None) -> dict[str, SensorState]:
    """Return the health of all sensors by name."""
    from beliefstream.streams.client.sensor_health import read_sensor_health

    settings = settings_for(brokers)
    return opened(read_sensor_health, settings, settings.names.sensor_health)


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


def print_health(found: Mapping[str, Assessment], as_json: bool) -> None:
    """Print the health of each sensor: JSON lines, or a table with a row for each reported number.

    Faulty sensors come first, and of these the one with the most evidence.
    """
    found = dict(sorted(found.items(), key=lambda item: _urgency(item[1])))
    if as_json:
        import json

        from pydantic_core import from_json, to_json

        for sensor, assessment in found.items():
            # null for numbers that JSON does not have
            finite = to_json(asdict(assessment), inf_nan_mode="null")
            print(json.dumps({"sensor": sensor, **from_json(finite)}))
        return
    rows: list[tuple[str, ...]] = []
    for sensor, assessment in found.items():
        for number, channel in enumerate(assessment.channels):
            because = f" by {assessment.bent_by}" if assessment.bent_by else ""
            head = (sensor, assessment.verdict + because) if number == 0 else ("", "")
            rows.append((*head, *_cells(number, channel)))
    print_table(COLUMNS, rows)


def _urgency(assessment: Assessment) -> tuple[bool, float]:
    strongest = max(max(channel.evidence.values()) for channel in assessment.channels)
    return assessment.verdict in ("healthy", "unknown"), -strongest


def _cells(number: int, channel: ChannelHealth) -> tuple[str, ...]:
    strongest = max(channel.evidence, key=lambda fault: channel.evidence[fault])
    return (
        f"{number}: {channel.verdict}",
        f"{channel.count:.0f}",
        _known(channel.bias, f"{channel.bias:+.3g} ± {channel.bias_deviation:.2g}"),
        f"× {channel.noise_scale:.2f} ± {channel.noise_scale_deviation:.2f}",
        f"{channel.outlier_share:.1%} of {channel.stated_share:.1%}",
        _known(channel.gain, f"{channel.gain:.3f}"),
        f"{strongest}: {channel.evidence[strongest]:.1f}",
    )


def _known(value: float, text: str) -> str:
    return text if math.isfinite(value) else "unknown"
