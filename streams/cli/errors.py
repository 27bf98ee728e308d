"""The error that ends a command with one line."""

from __future__ import annotations


class CommandError(RuntimeError):
    """A command failed; the text is the one line that the user gets."""
