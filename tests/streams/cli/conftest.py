"""Runs commands as a user does, against a broker whose topics are the test's own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
import structlog
import torch
from typer import Typer

from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer
from beliefstream.streams.cli.main import main, run as run_app
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.monitoring.logs import WITH_PASSWORDS
from beliefstream.streams.settings import as_text
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.workers import renamed

NOBODY = "127.0.0.1:1"  # where no broker answers


class Result(NamedTuple):
    """How a command ended and what it wrote."""

    status: int
    out: str
    err: str


class Run(Protocol):
    """Runs `beliefstream`, or another application, with these arguments, in this process."""

    def __call__(self, *arguments: str, app: Typer | None = None) -> Result: ...


def environment(bootstrap_servers: str, names: Names) -> dict[str, str]:
    """The variables that point commands to a test's own topics."""
    return {
        "BELIEFSTREAM_BROKERS": bootstrap_servers,
        "BELIEFSTREAM_APPLICATION": names.app_id,
        "BELIEFSTREAM_TOPICS": as_text(renamed(names.topics)),
        "BELIEFSTREAM_PARTITIONS": "3",
        "BELIEFSTREAM_FETCH_HIGH_WATERMARK": "true",
        "BELIEFSTREAM_BRIDGE_ADDRESS": "127.0.0.1:0",
    }


def set_environment(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Run]:
    """Commands in an empty directory, where nothing is set and no broker answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BELIEFSTREAM_BROKERS", NOBODY)

    def call(*arguments: str, app: Typer | None = None) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            if app is None:
                main(arguments)
            else:
                run_app(app, "python", arguments)
        out, err = capsys.readouterr()
        assert ended.value.code in (0, 1)
        return Result(int(ended.value.code), out, err)

    threads, root = torch.get_num_threads(), logging.getLogger()
    handlers = root.handlers[:]
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, ("kafka", *WITH_PASSWORDS)))}
    yield call
    torch.set_num_threads(threads)
    structlog.reset_defaults()
    root.handlers[:] = handlers  # one for a stream that is closed now would complain for every other test
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture
def topics(embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch, run: Run) -> Names:
    """The names of topics that exist, which the environment tells to commands."""
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    set_environment(monkeypatch, environment(embedded_broker.bootstrap_servers, names))
    return names


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network as it begins: its answers are refined, so they are posteriors all the same."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    configuration = Configuration(width=8, layers=1, heads=2, hidden=8)
    torch.manual_seed(0)
    weights.save(DistributionTransformer(configuration), path, {})
    return path


def assert_one_line(result: Result, *parts: str) -> None:
    """It failed as a command should: status 1 and one line on stderr, which says all of `parts`."""
    assert result.status == 1
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("beliefstream: ")
    for part in parts:
        assert part in lines[0]
