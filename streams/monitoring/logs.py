"""Logging with structlog: JSON lines in production, colours in a terminal; Faust's logs are included."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import structlog

from beliefstream.schemas import printable

PERIOD_SECONDS = 60.0
MOST_KINDS = 1000  # kinds of lines to remember
REPEATED = "repeated"
"""The field of a line with the number of equal lines suppressed since the last one written."""
# Parts that differ between equal lines: addresses of objects, and durations. A version or an IP address has more than
# one full stop.
VARIES = re.compile(r"0x[0-9a-f]+|(?<![\d.])\d+\.\d+(?![\d.])")
SLOW_TASKS = "kafka.net.selector"  # warns of every task of more than .1 s, of which a busy machine has many
# At DEBUG these log every request, and one of them contains the broker password.
WITH_PASSWORDS = ("kafka.net", "kafka.protocol", "aiokafka.conn")
# Faust and aiokafka log every step of a rebalance at INFO; an operator needs only their warnings.
LIBRARIES = ("faust", "mode", "aiokafka", "kafka", "aiohttp")
SERVICES = logging.getLogger("faust.streams")
"""The logger for our subclasses of Faust's services; Faust logs each of their steps."""


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

    While no broker answers, Kafka's clients retry many times a second and log every attempt.

    Args:
        stream: as in `logging.StreamHandler`.
        period: seconds.
        clock: monotonic, seconds.
    """

    def __init__(
        self, stream: IO[str], period: float = PERIOD_SECONDS, clock: Callable[[], float] = time.monotonic
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


def configure(style: str = "auto", level: str = "INFO") -> None:
    """Configure the logging of a worker.

    Args:
        style: json, console, or auto (console in a terminal).
        level: the lowest level to log; at `DEBUG` the libraries log everything too.
    """
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        without_control_characters,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = ThrottledHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder([REPEATED]), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.DEBUG if level.upper() == "DEBUG" else logging.WARNING)
    logging.getLogger(SLOW_TASKS).setLevel(logging.NOTSET if level.upper() == "DEBUG" else logging.ERROR)
    silence_passwords()


def write_repeated() -> None:
    """Log the counts of repeated lines that are due; call this every few seconds."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, ThrottledHandler):
            handler.write_repeated()


def configure_command(debug: bool = False) -> None:
    """Configure the logging of a command: warnings go to stderr, and Kafka's client logs nothing.

    The command reports the client's errors itself.
    """
    processors = [each for each in structlog.get_config()["processors"] if each != without_control_characters]
    structlog.configure(
        processors=[*processors[:-1], without_control_characters, processors[-1]],  # the last one renders
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.getLogger("kafka").setLevel(logging.DEBUG if debug else logging.CRITICAL)
    if debug:
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    silence_passwords()


def silence_passwords() -> None:
    """Silence the loggers that would log passwords, at any level."""
    for logger in map(logging.getLogger, WITH_PASSWORDS):
        logger.setLevel(logging.NOTSET)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def without_control_characters(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that escapes control characters, so that a message cannot fake log lines."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = printable(value, "\n\t" if name in ("exception", "stack") else "")
    return event
