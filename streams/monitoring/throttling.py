"""A log handler that writes the first of several equal warnings at once, and their count once a minute.

While no broker answers, Kafka's clients retry many times a second and log every attempt.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

__all__ = ["REPEATED", "ThrottledHandler"]

PERIOD_SECONDS = 60.0
MOST_KINDS = 1000  # kinds of lines to remember
REPEATED = "repeated"
"""The field of a line with the number of equal lines suppressed since the last one written."""
# Parts that differ between equal lines: addresses of objects, and durations. A version or an IP address has more than
# one full stop.
VARIES = re.compile(r"0x[0-9a-f]+|(?<![\d.])\d+\.\d+(?![\d.])")


@dataclass
class _Kind:
    """A kind of line: the last record, when a line was last written, and how many were suppressed since."""

    record: logging.LogRecord
    written: float
    held: int = 0


class ThrottledHandler(logging.StreamHandler[IO[str]]):
    """Writes lines to a stream; from WARNING up, equal lines only once a period.

    Lines are equal if they have the same logger, level, text and exception. Addresses of objects and durations in them
    may differ.

    Args:
        stream: as in `logging.StreamHandler`.
        period: seconds.
        clock: monotonic, seconds.
    """

    def __init__(
        self,
        stream: IO[str],
        period: float = PERIOD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self._period, self._clock = period, clock
        self._kinds: dict[Hashable, _Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, or count it; the handler's lock is held."""
        now = self._clock()
        self._write_due(now)
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        key = _key(record)
        if (kind := self._kinds.get(key)) is not None:
            kind.record, kind.held = record, kind.held + 1
            return
        while len(self._kinds) >= MOST_KINDS:
            self._write_held(self._kinds.pop(next(iter(self._kinds))))
        self._kinds[key] = _Kind(record, now)
        super().emit(record)

    def write_repeated(self) -> None:
        """Write the counts that are due; call this regularly, because no other line may trigger it."""
        with suppress(RuntimeError):  # no lock: the interpreter is shutting down
            self.acquire()
            try:
                self._write_due(self._clock())
            finally:
                self.release()

    def close(self) -> None:
        """Write all counts, and close."""
        self.acquire()
        try:
            for kind in self._kinds.values():
                self._write_held(kind)
            self._kinds.clear()
        finally:
            self.release()
        super().close()

    def _write_due(self, now: float) -> None:
        due = [key for key, kind in self._kinds.items() if now - kind.written >= self._period]
        for key in due:
            kind = self._kinds.pop(key)
            if kind.held:  # without suppressed lines, the next one is written at once
                self._write_held(kind)
                self._kinds[key] = _Kind(kind.record, now)

    def _write_held(self, kind: _Kind) -> None:
        if not kind.held:
            return
        record = kind.record
        if isinstance(record.msg, dict):  # from structlog
            record.msg = record.msg | {REPEATED: kind.held}
        else:
            setattr(record, REPEATED, kind.held)
        super().emit(record)


def _key(record: logging.LogRecord) -> Hashable:
    return record.name, record.levelno, VARIES.sub("#", "\n".join(_texts(record)))


def _texts(record: logging.LogRecord) -> Iterator[str]:
    message: Any = record.msg
    if isinstance(message, dict):
        yield from (f"{name}={value!r}" for name, value in message.items() if name != "timestamp")
    else:
        try:
            yield record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit: the formatter reports it
            yield f"{message!r} {record.args!r}"
    if record.exc_info and record.exc_info[1] is not None:
        yield repr(record.exc_info[1])
