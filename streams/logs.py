"""Logging: structlog, JSON lines in production and colours in a terminal; Faust's own records go the same way."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


def configure(style: str = "auto", level: str = "INFO") -> None:
    """`style` is json, console, or auto (console where stderr is a terminal)."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Faust and aiokafka tell every step of a rebalance at INFO; warnings are what an operator needs
    for name in ("faust", "mode", "aiokafka", "kafka", "aiohttp", "streams.recovery", "streams.consuming"):
        logging.getLogger(name).setLevel(logging.WARNING)
