"""`beliefstream models`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from beliefstream.streams.cli.definitions.registry import (
    Source,
    check_defined,
    details,
    open_registry,
    print_definitions,
)
from beliefstream.streams.cli.options import Brokers, read_definitions
from beliefstream.streams.cli.output import AsJson

models = typer.Typer(name="models", help="Define models of entities, list or remove them.")


@models.command("set")
def set_models(source: Source, brokers: Brokers = None) -> None:
    """Define the models of entities (`*`: of all without their own); if one definition is invalid, none is set.

    docs/definitions.md and the JSON Schemas of `beliefstream contract` list the motions.

    Example: beliefstream models set '{"entity": "*", "name": "walker",
    "coordinates": [{"name": "x", "unit": "m"}],
    "motion": {"kind": "random_walk", "spectral_density": 0.1},
    "prior": {"weights": [1], "means": [[0]], "covariances": [[[100]]]}}'
    """
    from beliefstream.schemas import Model, parse
    from beliefstream.streams.bridges.definition_files import parse_definitions

    definitions = parse_definitions(read_definitions(source), lambda raw: parse(Model, raw))
    with open_registry(brokers) as registry:
        for definition in definitions:
            registry.set_model(definition)
            print(f"set model of {definition.entity}")


@models.command("list")
def list_models(as_json: AsJson, brokers: Brokers = None) -> None:
    """List the defined models; `models set -` reads the JSON lines again.

    Example: beliefstream models list --json
    """
    with open_registry(brokers) as registry:
        found = registry.models()
    print_definitions(found, as_json, ("entity", "model", "coordinates", "motion", "components"), _model_row)


@models.command("remove")
def remove_models(
    entities: Annotated[list[str], typer.Argument(metavar="ENTITY...")], brokers: Brokers = None
) -> None:
    """Remove the models of entities, which then use that of `*`.

    Example: beliefstream models remove mower
    """
    with open_registry(brokers) as registry:
        check_defined(entities, registry.models(), "model of")
        for entity in entities:
            registry.remove_model(entity)
            print(f"removed model of {entity}")


def _model_row(model: Any) -> tuple[str, ...]:
    coordinates = ", ".join(f"{each.name} ({each.unit})" for each in model.coordinates)
    motion = f"{model.motion.kind}: {details(model.motion, ('kind',))}"
    if model.modes:
        motion += f"; modes {', '.join(f'{factor:g}' for factor in model.modes)} for {model.mode_time:g} s"
    return model.entity, f"{model.name} {model.version}", coordinates, motion, str(model.components)
