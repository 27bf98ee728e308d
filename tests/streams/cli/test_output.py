from __future__ import annotations

import pytest

from beliefstream.streams.cli import output
from tests.conftest import eventually


def test_progress_is_told_in_lines_outside_a_terminal_even_while_nothing_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "LINES_EVERY", 0.01)
    told = ""

    def is_told(line: str) -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return line in told

    with output.progress_bar("steps") as progress:
        progress.update(progress.add_task("read", total=1, note=""), completed=1)
        train = progress.add_task("train", total=40, note="compiles")
        eventually(lambda: is_told("train  0/40 steps"), 10, "a line")
        progress.update(train, completed=20, note="loss 1.5")
        eventually(lambda: is_told("train 20/40 steps"), 10, "another line")
        assert "loss 1.5" in told
    assert "read" not in told
