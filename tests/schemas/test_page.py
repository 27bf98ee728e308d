"""docs/definitions.md: what it shows is sound, and it leaves no kind out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from beliefstream.schemas import Model, Reason, parse, parse_sensor
from beliefstream.schemas.kinds import AnyMotion
from beliefstream.schemas.sensors.parsing import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "definitions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_definition_on_the_page_is_sound(block: str) -> None:
    if "motion" in json.loads(block):
        parse(Model, block.encode())
    else:
        parse_sensor(block.encode())


def test_the_page_of_refusals_names_every_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "refusals.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [reason for row in rows for reason in re.findall("`([a-z_]+)`", row)]
    assert set(named) >= set(Reason)


SENSORS = {each.model_fields["kind"].default: each for each in KINDS}
MOTIONS = {each.model_fields["kind"].default: each for each in get_args(AnyMotion)}


def rows() -> list[tuple[str, set[str]]]:
    """The kinds in the tables' first column, and what else stands in the row as code."""
    lines = [
        re.findall(r"`([a-z_]+)`", line) for line in PAGE.splitlines() if re.match(r"\| `(?!kind)", line)
    ]
    return [(kind, set(named)) for kind, *named in lines]


def test_every_kind_has_a_row() -> None:
    found = [kind for kind, _ in rows()]
    assert (set(found[: len(SENSORS)]), set(found[len(SENSORS) :])) == (set(SENSORS), set(MOTIONS))


def test_rows_name_fields_that_are_there() -> None:
    for number, (kind, named) in enumerate(rows()):
        message = (SENSORS if number < len(SENSORS) else MOTIONS)[kind]
        assert named <= set(message.model_fields) | set(SENSORS), kind
