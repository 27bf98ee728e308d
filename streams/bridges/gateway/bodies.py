"""Reads messages from the body of a request: one JSON object, a list of them, or one on each line (NDJSON)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic_core import from_json, to_json

from beliefstream.schemas import Reason, Unusable, parse
from beliefstream.schemas.base import Message, check_size

__all__ = ["JSON", "LINES", "MOST_ITEMS", "read_messages"]

M = TypeVar("M", bound=Message)

JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
MOST_ITEMS = 10_000  # in one request


def read_messages(message: type[M], body: bytes, lines: bool, most_bytes: int) -> Iterator[M | Unusable]:
    """Yield the messages of a body in order, and for each that cannot be used the error in its place.

    Args:
        message: what each item is to be.
        body: the body.
        lines: whether there is one item on each line; empty lines are left out.
        most_bytes: the largest size of one message.

    Raises:
        Unusable: the body as a whole is not JSON, has no item or too many.
    """
    if lines:
        items: list[Any] = [line for line in body.splitlines() if line.strip()]
        _check_count(len(items))
        return (_parsed(message, line, most_bytes) for line in items)
    if body.lstrip()[:1] != b"[":
        return iter([_parsed(message, body, most_bytes)])
    try:
        items = from_json(body)
    except ValueError as error:
        raise Unusable(Reason.not_json, f"body: {error}") from error
    _check_count(len(items))
    return (_parsed(message, to_json(item, inf_nan_mode="constants"), most_bytes) for item in items)


def _check_count(count: int) -> None:
    if count == 0:
        raise Unusable(Reason.invalid, "body: expected at least one message, got none")
    if count > MOST_ITEMS:
        raise Unusable(
            Reason.too_large, f"body: {count} messages, more than {MOST_ITEMS} are not read at once"
        )


def _parsed(message: type[M], raw: bytes, most_bytes: int) -> M | Unusable:
    try:
        check_size(raw, most_bytes)
        return parse(message, raw)
    except Unusable as error:
        return error
