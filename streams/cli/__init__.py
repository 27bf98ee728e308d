"""The command line: `beliefstream COMMAND`; every command has --help with an example."""

from __future__ import annotations

from beliefstream.streams.cli.main import main

__all__ = ["main"]
