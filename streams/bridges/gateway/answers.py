"""Answers of the gateway as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response

from beliefstream.schemas import Unusable, printable
from beliefstream.streams.client import Place

__all__ = ["RETRY_AFTER", "answer", "problem", "report", "unavailable"]

RETRY_AFTER = 2  # seconds; as often as the broker is asked whether it is there

Outcome = Place | Exception


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with JSON."""
    return Response(to_json(content), status, headers, "application/json")


def problem(
    status: int, error: str, reason: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A response that says in one line what is wrong, and in `reason` the reason from the closed list."""
    content = {"error": printable(error)} | ({"reason": reason} if reason else {})
    return answer(content, status, headers)


def unavailable(error: str) -> Response:
    """A response that asks the client to come again later."""
    return problem(503, error, headers={"Retry-After": str(RETRY_AFTER)})


def report(outcomes: Sequence[Outcome]) -> Response:
    """What became of each message of a request: 202, or 207 where they differ, or 400 or 503 where none was taken."""
    items = [_item(index, outcome) for index, outcome in enumerate(outcomes)]
    statuses = {item["status"] for item in items}
    accepted = sum(item["status"] == 202 for item in items)
    content = {"accepted": accepted, "rejected": len(items) - accepted, "items": items}
    status = statuses.pop() if len(statuses) == 1 else 207
    if accepted == 0 and status == 207:
        status = 503  # some may be sent again
    headers = {"Retry-After": str(RETRY_AFTER)} if any(item["status"] == 503 for item in items) else None
    return answer(content, status, headers)


def _item(index: int, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Place):
        # a broker that has a message already does not always say where
        known = {"place": f"{outcome.partition}:{outcome.offset}"} if outcome.offset >= 0 else {}
        return {"index": index, "status": 202, **known}
    if isinstance(outcome, Unusable):
        return {"index": index, "status": 400, "reason": outcome.reason, "error": outcome.detail}
    return {"index": index, "status": 503, "error": printable(str(outcome))}
