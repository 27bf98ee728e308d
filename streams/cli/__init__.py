"""The command line: one file a command, in rooms by what it is for; `commands.py` lists all."""

from __future__ import annotations

from beliefstream.streams.cli.main import main

__all__ = ["main"]
