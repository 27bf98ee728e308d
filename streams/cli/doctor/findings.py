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
    """The result of a check of one subject; `remedy` says how to fix a problem."""

    subject: str
    status: Status
    detail: str
    remedy: str = ""


def absent(topic: str) -> str:
    """Return the reason why a check of a missing topic was skipped."""
    return f"there is no topic {topic!r}, or this user may not see it"
