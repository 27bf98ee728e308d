"""Runs the commands of `research` as a user does, in this process."""

from __future__ import annotations

import pytest
from typer import Typer

from research.evaluate import app as evaluate
from research.paper.__main__ import app as paper
from research.recordings.__main__ import app as recordings
from research.sbibm.__main__ import app as sbibm
from tests.streams.cli.conftest import (
    Result,
    Run,
    run as cli,  # noqa: F401  (the fixtures)
    small_weights as small_weights,
    topics as topics,
)

APPLICATIONS = {"evaluate": evaluate, "paper": paper, "recordings": recordings, "sbibm": sbibm}


@pytest.fixture
def run(cli: Run) -> Run:  # noqa: F811
    """`run("evaluate", ...)` is `python -m research.evaluate ...`."""

    def call(*arguments: str, app: Typer | None = None) -> Result:
        return cli(*arguments[1:], app=app or APPLICATIONS[arguments[0]])

    return call
