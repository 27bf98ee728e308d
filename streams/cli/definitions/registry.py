"""Shared parts of `beliefstream sensors` and `beliefstream models`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.output import print_table
from beliefstream.streams.cli.sending import SOURCE
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Message
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
    return opened(Registry, settings, settings.sensors, settings.models, source=SOURCE)


def check_defined(names: list[str], found: Mapping[str, Any], what: str) -> None:
    unknown = [name for name in names if name not in found]
    if unknown:
        raise CommandError(f"there is no {what} {', '.join(unknown)}")


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
