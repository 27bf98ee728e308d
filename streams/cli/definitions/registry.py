"""Shared parts of `beliefstream sensors` and `beliefstream models`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.output import print_table
from beliefstream.streams.cli.sending import SOURCE
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Message, Sensor
    from beliefstream.streams.client import Registry

Source = Annotated[
    str,
    typer.Argument(
        metavar="FILE|-|JSON",
        help="JSON or YAML: one definition, a list of them, or one per line or document",
    ),
]


def open_registry(brokers: str | None) -> Registry:
    from beliefstream.streams.client import Registry

    settings = settings_for(brokers)
    return opened(Registry, settings, settings.names.sensors, settings.names.models, source=SOURCE)


def check_defined(names: list[str], found: Mapping[str, Any], what: str) -> None:
    unknown = [name for name in names if name not in found]
    if unknown:
        raise CommandError(f"there is no {what} {', '.join(unknown)}")


def require_accepted(present: Iterable[Sensor], given: Iterable[Sensor]) -> None:
    """Raise Unusable if workers that have the present sensors would refuse a given one: see `errors.Devices`."""
    present, given = list(present), list(given)
    if not any(getattr(sensor, "device", None) for sensor in (*present, *given)):
        return  # PyTorch need not be loaded
    from beliefstream.schemas import Unusable
    from beliefstream.streams.definitions.errors import Devices

    devices = Devices()
    for sensor in present:
        with suppress(Unusable):  # workers refuse it already
            devices.add(sensor)
    for sensor in given:
        devices.add(sensor)


def print_definitions(
    found: Mapping[str, Message],
    as_json: bool,
    columns: tuple[str, ...],
    row: Callable[[Any], tuple[str, ...]],
) -> None:
    definitions = [found[name] for name in sorted(found)]
    if as_json:
        for definition in definitions:
            print(definition.to_json().decode())
    else:
        print_table(columns, map(row, definitions))


def details(message: Any, without: tuple[str, ...]) -> str:
    """The other fields of a definition that differ from their defaults."""
    rest = message.model_dump(mode="json", exclude_defaults=True, exclude=set(without))
    return ", ".join(f"{name} {value}" for name, value in rest.items())
