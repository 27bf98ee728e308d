from __future__ import annotations

import pytest

from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from tests.conftest import CompiledNetwork
from tests.streams.cli.conftest import Run, assert_one_line, set_environment


def test_a_worker_finds_what_was_compiled(
    run: Run, compiled_network: CompiledNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "BELIEFSTREAM_WEIGHTS": str(compiled_network.weights),
        "BELIEFSTREAM_COMPILED": str(compiled_network.directory),
        "BELIEFSTREAM_POINTS": str(compiled_network.points),
    }
    set_environment(monkeypatch, variables)
    result = run("compile", "--dimensions", "1")
    assert result.status == 0
    assert str(compiled_network.directory) in result.out
    compiled = make_updater(Settings()).compiled
    assert compiled is not None
    assert compiled.available(1)
    assert not compiled.available(2)


def test_a_dimension_that_is_none_is_named(run: Run) -> None:
    assert_one_line(run("compile", "--dimensions", "0"), "--dimensions", "0")
