"""The error of a command."""

from __future__ import annotations


class CommandError(RuntimeError):
    """A command failed; its message is the one line that the user sees."""
