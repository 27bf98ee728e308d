"""The live page beside the demo: what is missing is told in one line, and the demo goes on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from beliefstream.streams.demo import page
from beliefstream.streams.demo.page import LivePageProcess
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.settings import Settings


def test_without_the_extra_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "websockets" else find(name)
    )
    said: list[str] = []
    process = LivePageProcess(Settings(), tmp_path, said.append)
    process.start()
    process.wait_until_served()
    process.stop()
    assert said == ["page     not started, websockets is missing: pip install 'beliefstream[live]'"]
    assert process.address == ""


def test_a_page_that_ends_at_once_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
    said: list[str] = []
    process = LivePageProcess(Settings(brokers=f"127.0.0.1:{free_port()}"), tmp_path, said.append)
    process.start()
    process.wait_until_served()
    process.stop()
    assert said[-1] == f"page     it does not answer; its log is {tmp_path}/page.log"
