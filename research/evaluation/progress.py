"""How long evaluations tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the current task, the number of problems done, and the total."""


def silent(task: str, done: int, total: int) -> None:
    """Tell nothing."""
