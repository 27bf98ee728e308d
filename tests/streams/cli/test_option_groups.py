"""Options in groups, as typer sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from beliefstream.streams.cli.options.groups import grouped


@dataclass(frozen=True)
class Place:
    """Where it is."""

    x: Annotated[float, typer.Option(help="to the east", min=0)]
    name: Annotated[list[str] | None, typer.Option("--called", help="its names")] = None


@dataclass(frozen=True)
class NamedPlace(Place):
    """Where it is, and when."""

    late: bool = False


def command_of(found: list[object]) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @grouped
    def show(what: Annotated[str, typer.Argument()], place: NamedPlace, count: int = 1) -> None:
        """Show it."""
        found.append((what, place, count))

    return app


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        (["it", "--x", "2"], ("it", NamedPlace(2.0), 1)),
        (
            ["it", "--called", "a", "--called", "b", "--x", "2", "--late", "--count", "3"],
            ("it", NamedPlace(2.0, ["a", "b"], True), 3),
        ),
    ],
)
def test_a_command_gets_its_groups_made_of_their_options(arguments: list[str], taken: object) -> None:
    found: list[object] = []
    result = CliRunner().invoke(command_of(found), arguments)
    assert result.exit_code == 0, result.output
    assert found == [taken]


@pytest.mark.parametrize("arguments", [["it"], ["it", "--x", "-1"], ["it", "--x", "1", "--place", "2"]])
def test_the_options_of_a_group_are_checked_as_any_others(arguments: list[str]) -> None:
    found: list[object] = []
    assert CliRunner().invoke(command_of(found), arguments).exit_code == 2
    assert not found


def test_help_has_the_options_of_a_group_and_the_text_of_the_command() -> None:
    shown = CliRunner().invoke(command_of([]), ["--help"]).output
    assert "Show it." in shown
    assert all(option in shown for option in ("--x", "--called", "--late", "--count"))
