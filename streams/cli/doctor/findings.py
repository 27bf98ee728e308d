"""Findings of `beliefstream doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """The result of a check."""

    ok = "ok"
    problem = "problem"
    skipped = "skipped"


@dataclass(frozen=True)
class Finding:
    """The result for one subject; `remedy` says what to do about a problem."""

    subject: str
    status: Status
    detail: str
    remedy: str = ""


def absent(topic: str) -> str:
    """The reason why a check of a missing topic was skipped."""
    return f"there is no topic {topic!r}, or none for this user"
