"""What `beliefstream doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What was found."""

    ok = "ok"
    problem = "problem"
    skipped = "skipped"


@dataclass(frozen=True)
class Finding:
    """About one subject; `mend` says what to do about a problem."""

    subject: str
    state: State
    detail: str
    mend: str = ""


def absent(topic: str) -> str:
    """Why something about a topic was not looked at."""
    return f"there is no topic {topic!r}, or none for this user"
