"""What servers answer over HTTP, whatever the status."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from email.message import Message
from typing import Any, NamedTuple

PATIENCE = 60.0  # seconds; enough for a busy machine


class Answer(NamedTuple):
    """Status, headers and body."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(request: urllib.request.Request, timeout: float = PATIENCE) -> Answer:
    """The answer, also to what is refused; redirections are not followed. Raises OSError if nobody answers."""
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def ask_if_there(request: urllib.request.Request, timeout: float = PATIENCE) -> Answer:
    """As `ask`; status 0 if nobody answers."""
    try:
        return ask(request, timeout)
    except OSError:
        return Answer(0, Message(), b"")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)
