"""Logging with structlog: JSON lines in production, colours in a terminal; Faust's logs are included."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from beliefstream.schemas import printable
from beliefstream.streams.monitoring.throttling import REPEATED, ThrottledHandler

SLOW_TASKS = "kafka.net.selector"  # warns of every task of more than .1 s, of which a busy machine has many
# At DEBUG these log every request, and one of them contains the broker password.
WITH_PASSWORDS = ("kafka.net", "kafka.protocol", "aiokafka.conn")
# Faust and aiokafka log every step of a rebalance at INFO; an operator needs only their warnings.
LIBRARIES = ("faust", "mode", "aiokafka", "kafka", "aiohttp")
SERVICES = logging.getLogger("faust.streams")
"""The logger for our subclasses of Faust's services; Faust logs each of their steps."""


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
