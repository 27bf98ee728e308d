from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import typer.main

from beliefstream.streams.cli.commands import app
from tests.streams.cli.conftest import Run, assert_one_line


def paths() -> Iterator[tuple[str, ...]]:
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            yield (name,)
        else:
            yield from ((name, part) for part in inner)


@pytest.mark.parametrize("path", sorted(paths()), ids=" ".join)
def test_help_shows_an_example_of_the_command(run: Run, path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert result.status == 0
    text = " ".join(result.out.split())
    example = text.partition("Example: ")[2]
    assert f"beliefstream {' '.join(path)}" in example


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out.split() == ["beliefstream", version("beliefstream")]


def test_a_shell_completes_commands() -> None:
    command = str(Path(sys.executable).with_name("beliefstream"))
    asked = {
        "_BELIEFSTREAM_COMPLETE": "complete_bash",
        "COMP_WORDS": "beliefstream models s",
        "COMP_CWORD": "2",
    }
    found = subprocess.run([command], env=os.environ | asked, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["set"]


def test_without_a_command_the_commands_are_listed(run: Run) -> None:
    result = run()
    assert result.status == 0
    assert "posteriors" in result.out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["topics"], "beliefstream topics --help"),
        (["posteriors", "--nonsense"], "No such option"),
        (["posteriors", "--count", "0"], "--count"),
        (["observe", "mower"], "SENSOR"),
    ],
)
def test_a_wrong_call_ends_with_one_line(run: Run, arguments: list[str], part: str) -> None:
    assert_one_line(run(*arguments), part)


@pytest.mark.parametrize(
    ("variable", "value"), [("BELIEFSTREAM_BATCH", "many"), ("BELIEFSTREAM_WEB_ADDRESS", "0.0.0.0:0")]
)
def test_a_wrong_setting_is_named_as_the_variable_it_is(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert_one_line(run("topics", "check"), variable, value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "create"],
        ["topics", "check"],
        ["worker"],
        ["sensors", "list"],
        ["models", "remove", "mower"],
        ["observe", "mower", "beacon-1", "1"],
        ["prior", "set", "mower", "--mean", "1", "--standard-deviation", "1"],
        ["entity", "reset", "mower"],
        ["posteriors"],
        ["watch"],
        ["simulate"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_broker_that_does_not_answer_is_one_line(
    run: Run, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.topics.CONNECT_TIMEOUT_MS", 200)
    monkeypatch.setattr("beliefstream.streams.kafka.connection.CONNECT_TIMEOUT", 0.2)
    assert_one_line(run(*arguments), "127.0.0.1:1", "answers")


def test_help_does_not_wait_for_torch_faust_or_kafka() -> None:
    program = (
        "import sys\n"
        "from beliefstream.streams.cli import main\n"
        "try:\n"
        "    main(['train', '--help'])\n"
        "except SystemExit:\n"
        "    print(sorted({'torch', 'faust', 'kafka', 'aiokafka', 'numpy'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_had_enough_is_no_failure() -> None:
    program = "from beliefstream.streams.cli import main; main(['settings'])"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)
    process.stderr.close()
