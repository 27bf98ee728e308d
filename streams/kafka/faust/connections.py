"""A fix for what aiokafka 0.14 does not survive when a connection breaks.

**A write to a transport that has just been closed.** uvloop raises RuntimeError, and asyncio's own loop raises nothing;
aiokafka expects OSError. When a broker is killed its connections are reset, and for a moment aiokafka takes them for
sound. The task that refreshes a client's metadata dies from the error without a report. Everything that waits for new
metadata then waits for ever: a worker stopped processing after one of three brokers had gone. `use_safe_connections`
turns the error into the one that aiokafka expects. It is mended when `AIOKafkaConnection.send` handles RuntimeError.

`streams.kafka.aiokafka_clients.fault_of` finds a client whose metadata task has died for any reason, so that the
worker can stop and be restarted.
"""

from __future__ import annotations

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

__all__ = ["use_safe_connections"]

_send = AIOKafkaConnection.send


def _send_or_say_why(self: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
    try:
        return _send(self, *arguments, **options)
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise  # such as NotImplementedError: the broker does not know this version of the request
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def use_safe_connections() -> None:
    """Apply the fix to all of aiokafka's connections in this process."""
    AIOKafkaConnection.send = _send_or_say_why
